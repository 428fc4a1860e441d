"""`python -m tests.fuzz.guided TARGET [options of libFuzzer] CORPUS...`: a target in Python, led by its coverage."""

import signal
import sys

import atheris

# Atheris can't instrument what an editable install's finder finds; the working directory has the same.
sys.meta_path = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable")]

with atheris.instrument_imports(
    include=["server.weights", "server.engine.native", "server.engine.detokenizer", "tests.fuzz.damage"]
):
    from tests.fuzz.readers import TARGETS


def main() -> None:
    """Runs until libFuzzer ends the process."""
    name, *options = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # libFuzzer handles it, unless somebody else does
    again = f"{sys.executable} -m tests.fuzz.guided {name}"  # what libFuzzer runs to merge one corpus into another
    atheris.Setup([again, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
