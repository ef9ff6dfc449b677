"""Reinforcement learning from AI feedback: sample, judge, learn by PPO, GRPO or RLOO, evaluate; round after round.

ray job submit -- python jobs/ppo_loop.py experiment=ppo
python jobs/ppo_loop.py experiment=smoke run.name=smoke-ppo sampler.attempts=1 learner.ppo.advantage=rloo
"""

from actors.alignment import finish, prepared, run_loop
from actors.collapse import check_heldout, check_round
from actors.heldout import evaluate
from actors.learning import reinforce
from actors.rounds import sample_and_judge
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
    for round_ in range(config.run.rounds):
        sample_and_judge(run, config, fleet, cases, base, round_, version=round_)
        check_round(run, config, round_)
        policy = reinforce(run, config, fleet, policy, base, round_)
        evaluate(run, config, fleet, heldout, policy, round_ + 1, round_name(round_))
        check_heldout(run, config, round_)
    fleet.close()

    finish(run, config, advantage=config.learner.ppo.advantage)


if __name__ == "__main__":
    launch(main, alignment="ppo")
