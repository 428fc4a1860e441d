"""The documentation says what the code does, where that can be compared."""

import re
from pathlib import Path

from server.settings import Settings

ROOT = Path(__file__).parents[2]


def test_every_setting_is_documented_with_its_default_and_meaning() -> None:
    table = {
        name: (default, meaning)
        for name, default, meaning in re.findall(
            r"^\| `POKEGEN_(\w+)` \| `(.*?)` \| (.*?) \|$",
            (ROOT / "docs/operations.md").read_text(),
            re.MULTILINE,
        )
    }
    for name, field in Settings.model_fields.items():
        default, meaning = table[name.upper()]
        assert meaning == field.description, name
        if name == "checkpoint":
            assert ROOT / default == field.default
        else:
            assert type(field.default)(default) == field.default, name


def test_every_path_that_a_document_names_is_there() -> None:
    for document in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        named = re.findall(
            r"`((?:server|nginx|finetune|tests|docs|checkpoint|corpus|scripts)/[\w./-]*)`",
            document.read_text(),
        )
        missing = [path for path in named if not (ROOT / path).exists()]
        assert not missing, f"{document.name} names what is not there: {missing}"


def test_make_checkpoint_does_what_the_model_card_says() -> None:
    def steps(file: str, name: str) -> list[str]:
        text = (ROOT / file).read_text().replace("{{ name }}", name)
        return re.findall(r"^\t?\S*python\"? -m finetune (.*)$", text, re.MULTILINE)

    made = steps("Makefile", "run1")
    assert made == steps("finetune/card.md.jinja", "run1")
    assert made[-1] == "card checkpoint/run1"
