"""What kind of box a test can make on this machine."""

import os

from loadtest.box import PROFILES, BoxError, By, ControlGroup


def best_way() -> By:
    """A control group where this process may make one, otherwise none."""
    try:
        ControlGroup.create(f"pokegen-probe-{os.getpid()}", PROFILES["t2.medium"]).remove()
    except BoxError:
        return "none"
    return "cgroup"
