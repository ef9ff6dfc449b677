"""Training of the tiny vision encoder on what its reports name, before it is frozen."""

import os
from collections.abc import Iterator
from pathlib import Path

import ray
import torch

from rlaif.models.encoders.build import new_encoder
from rlaif.models.encoders.settings import EncoderSettings
from rlaif.models.tensor_files import write_tensors
from rlaif.objectives.finding_supervision import FindingHead, bit_targets, bit_vocabulary, finding_loss
from rlaif.policy_choice import EncoderTraining

Step = dict[str, float]


@ray.remote(max_retries=0)
def train_encoder(
    volumes: ray.data.DataIterator,
    reports: dict[str, str],
    geometry: EncoderSettings,
    settings: EncoderTraining,
    seed: int,
    target: str,
) -> Iterator[Step]:
    """Trains an encoder on the volumes of reported studies and writes its weights; yields every step."""
    # Nothing else computes meanwhile.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(seed)
    vocabulary = bit_vocabulary(list(reports.values()), least=max(2, len(reports) // 100))
    bits = dict(zip(reports, bit_targets(list(reports.values()), vocabulary), strict=True))
    encoder = new_encoder(geometry)
    head = FindingHead(geometry.tokens, geometry.hidden, len(vocabulary))
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=0.01)
    steps = settings.epochs * -(-len(reports) // settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=steps, pct_start=0.1)
    number = 0
    for epoch in range(settings.epochs):
        batches = volumes.iter_batches(
            batch_size=settings.batch,
            prefetch_batches=2,
            local_shuffle_buffer_size=min(1024, len(reports)),
            local_shuffle_seed=seed * 1000 + epoch,
        )
        for batch in batches:
            known = [row for row, reason in enumerate(batch["reason"]) if not reason]
            if not known or number >= steps:
                continue
            voxels = torch.from_numpy(batch["voxels"][known]).float()
            targets = torch.stack([bits[batch["study_id"][row]] for row in known])
            # A little noise keeps the small encoder from learning the scanner's.
            loss = finding_loss(head(encoder(voxels + 0.05 * torch.randn_like(voxels))), targets)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            yield {
                "step": number,
                "of": steps,
                "loss": float(loss.detach()),
                "lr": float(schedule.get_last_lr()[0]),
                "grad_norm": float(norm),
            }
            number += 1
    write_tensors(encoder.state_dict(), Path(target))
