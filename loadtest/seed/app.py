"""The application of the seed design: gpt-2-simple loads the model for each request, answers, and throws it away.

    GET /generate?prefix=TEXT&length=TOKENS    {"text": ..., "usage": {"completion_tokens": ...}}
    GET /healthz                               200, without a model

Written anew from the design's description. Nothing in it is made slower or larger than the design is; what it does
better is that a request that fails leaves no half-loaded model behind for the next one.
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is first imported

import gpt_2_simple as gpt2
from flask import Flask, request
from flask.typing import ResponseReturnValue

LENGTH = 256  # new tokens where the request does not say; gpt-2-simple always makes all of them

application = Flask(__name__)
checkpoint = Path(os.environ["SEED_CHECKPOINT"])


@application.get("/generate")
def generate() -> ResponseReturnValue:
    """A text. As `int` does, a length that is no number means the default one."""
    length = request.args.get("length", LENGTH, type=int)
    session = gpt2.start_tf_sess()
    try:
        gpt2.load_gpt2(session, run_name=checkpoint.name, checkpoint_dir=str(checkpoint.parent))
        texts = gpt2.generate(
            session,
            run_name=checkpoint.name,
            checkpoint_dir=str(checkpoint.parent),
            prefix=request.args.get("prefix"),
            length=length,
            return_as_list=True,
        )
    finally:
        gpt2.reset_session(session)
    return {"text": texts[0], "usage": {"completion_tokens": length}}


@application.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Whether a worker answers."""
    return {"status": "ok"}
