"""Serve a language model of your own at an OpenAI-compatible address, for judges that ask one: nothing leaves the site.

python jobs/serve.py serve.model=/models/judge
python jobs/serve.py serve.model=/models/judge serve.gpus=1 serve.port=8200
"""

import signal
import sys

from actors.cluster import cluster_at
from actors.served_model import address_of, check_port, is_loopback, model_folder, served, stay
from rlaif.config import Config
from rlaif.launch import launch


def main(config: Config) -> None:
    settings = config.serve
    model = model_folder(settings)
    check_port(settings)
    if not is_loopback(settings.host):
        print(
            f"warning: everyone who reaches {settings.host}:{settings.port} can ask the model, without a key and "
            "unencrypted; judges themselves accept no such address",
            file=sys.stderr,
        )
    # Also a process in the background, which a shell lets ignore Ctrl-C, ends in order.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with cluster_at(config.cluster.address):
            print(f"starting {model.name} …", flush=True)
            with served(model, settings):
                print(f"{model.name} answers at {address_of(settings)}; Ctrl-C ends it. A judge that asks it:")
                print(f"  judge=gpt4 judge.base_url={address_of(settings)} judge.model={model.name}", flush=True)
                stay(model)
    except KeyboardInterrupt:
        print("ended", flush=True)


if __name__ == "__main__":
    launch(main)
