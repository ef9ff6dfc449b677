"""Iterative DPO with AI feedback: sample, judge, pair, learn, evaluate; round after round.

ray job submit -- python jobs/dpo_loop.py experiment=demo
python jobs/dpo_loop.py experiment=smoke run.rounds=1
"""

from actors.alignment import finish, prepared, run_loop
from actors.heldout import evaluate
from actors.learning import learn
from actors.own_start import take_start
from actors.rounds import make_pairs, sample_and_judge, sampling_ahead
from actors.sampling_plan import round_name
from rlaif.config import Config
from rlaif.launch import launch
from rlaif.ledger import RunFolder


def main(config: Config) -> None:
    run_loop(config, align)


def align(run: RunFolder, config: Config) -> None:
    begun = prepared(run, config)
    fleet, base, cases, heldout = begun.fleet, begun.base, begun.cases, begun.heldout
    policy = base

    evaluate(run, config, fleet, heldout, base, 0, "base")
    take_start(run, config, fleet, cases)
    for round_ in range(config.run.rounds):
        sample_and_judge(run, config, fleet, cases, base, round_, version=round_)
        make_pairs(run, config, cases, round_)
        with sampling_ahead(run, config, fleet, cases, base, round_):
            policy = learn(run, config, fleet, policy, base, round_)
        evaluate(run, config, fleet, heldout, policy, round_ + 1, round_name(round_))
    fleet.close()

    finish(run, config, pairs=config.pairs.strategy)


if __name__ == "__main__":
    launch(main, alignment="dpo")
