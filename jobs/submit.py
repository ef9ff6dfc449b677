"""Submits a job to the Ray head of this machine; starts one for the job where none runs, and ends what it started.

python jobs/submit.py jobs/dpo_loop.py experiment=demo run.rounds=3
"""

import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from actors.head import HeadError, local_head
from actors.submission import running_head, submit

PROJECT = Path(__file__).resolve().parent.parent


def main() -> int:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    job = [sys.executable, str((PROJECT / sys.argv[1]).resolve()), *sys.argv[2:]]
    # Ends like Ctrl-C, so that a head that was started here ends as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            head = running_head()
            if head is None:
                print("starting a local Ray head for this job …", flush=True)
                head = stack.enter_context(local_head(PROJECT))
            return submit(head, job)
    except HeadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what is on disk", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
