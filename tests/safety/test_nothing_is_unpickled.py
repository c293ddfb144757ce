"""Nothing that lies on disk becomes code: no unpickling, no YAML tags, no code of a model's repository."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from ablate.config.schema import ModelConfig
from ablate.data.tokenization import load_tokenizer
from ablate.errors import ModelError
from ablate.models.hub import data_commit
from ablate.tasks.text_classification import build_model
from ablate.training.random_streams import RandomStreams

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "torch.load", "torch.jit.load", "yaml.full_load", "yaml.unsafe_load",
                   "yaml.load_all",                    "os.system", "np.load", "numpy.load", "pd.read_pickle"}  # fmt: skip


def sources(repo: Path) -> Iterator[tuple[Path, ast.AST]]:
    for folder in ("ablate", "hydra_plugins"):
        for path in sorted((repo / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def suspicious(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FORBIDDEN_MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keys = {keyword.arg: keyword.value for keyword in node.keywords}
            if name in FORBIDDEN_CALLS or name.endswith((".allow_pickle", ".read_pickle")):
                found.append(name)
            if name == "yaml.load" and "Safe" not in (loader := ast.unparse(keys.get("Loader", ast.Constant(None)))):
                found.append(f"yaml.load with {loader}")
            if "allow_pickle" in keys:
                found.append("allow_pickle")
            if name.endswith("from_pretrained") and name not in ("self.from_pretrained",):
                remote = keys.get("trust_remote_code")
                if not (isinstance(remote, ast.Constant) and remote.value is False):
                    found.append(f"{name} without trust_remote_code=False")
    return found


def test_no_source_reads_what_could_become_code(repo: Path) -> None:
    assert {
        path.relative_to(repo).as_posix(): found for path, tree in sources(repo) if (found := suspicious(tree))
    } == {}


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from joblib import load", "torch.load(path, weights_only=True)", "yaml.load(text, Loader=yaml.Loader)",
     "yaml.load(text)", "np.load(path, allow_pickle=True)", "eval(text)", "AutoModel.from_pretrained(name)",
     "AutoModel.from_pretrained(name, trust_remote_code=True)"],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(text: str) -> None:
    assert suspicious(ast.parse(text))


def hub(cache: Path, *, commit: str, evil: bool = False) -> None:
    """A model as the hub's own cache keeps it: refs/ name a commit, snapshots/ hold its files."""
    from transformers import BertConfig, BertForSequenceClassification

    folder = cache / "models--somebody--tiny"
    place = folder / "snapshots" / commit
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 40,
    }
    BertForSequenceClassification(BertConfig(**shape)).save_pretrained(place)
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    if evil:
        settings = json.loads((place / "config.json").read_text())
        settings["model_type"] = "made_up"
        settings["auto_map"] = {name: f"evil.{name}" for name in ("AutoConfig", "AutoModelForSequenceClassification")}
        (place / "config.json").write_text(json.dumps(settings))
        (place / "evil.py").write_text(f"open({str(cache / 'ran')!r}, 'w').close()\n")
        (place / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Slow", None]}}))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An offline hub of its own."""
    for module in ("huggingface_hub.constants", "transformers.utils.hub", "huggingface_hub.file_download"):
        for name, value in {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": True}.items():
            monkeypatch.setattr(f"{module}.{name}", value, raising=False)
    return tmp_path


def test_the_commit_that_came_is_recorded_whatever_was_asked_for(cache: Path) -> None:
    from ablate.config.schema import Config
    from ablate.models.hub import hub_revisions

    commit = "0123456789abcdef0123456789abcdef01234567"
    hub(cache, commit=commit)
    config = Config(model=ModelConfig(name="somebody/tiny"))
    build_model(config.model, 2, RandomStreams())
    assert hub_revisions(config, "") == {"model": {"name": "somebody/tiny", "revision": commit}}


def test_the_commit_of_a_data_set_is_read_from_what_was_loaded() -> None:
    class Info:
        download_checksums: ClassVar = {
            "hf://datasets/somebody/films@89abcdef0123456789abcdef0123456789abcdef/train.parquet": {}
        }

    class Rows:
        info, cache_files = Info(), ()

    class Local:
        info = type("Info", (), {"download_checksums": None})()
        cache_files = ({"filename": "/home/me/films/train.arrow"},)

    assert data_commit({"train": Rows()}) == "89abcdef0123456789abcdef0123456789abcdef"
    assert data_commit({"train": Local()}) == ""


def test_code_of_a_models_repository_is_not_run(cache: Path) -> None:
    hub(cache, commit="f" * 40, evil=True)
    config = ModelConfig(name="somebody/tiny")
    with pytest.raises(ModelError, match="somebody/tiny cannot be loaded"):
        build_model(config, 2, RandomStreams())
    with pytest.raises(ModelError, match="somebody/tiny cannot be loaded"):
        load_tokenizer(config)
    assert not (cache / "ran").exists()


def test_a_folder_with_pickled_weights_alone_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(ModelError, match=r"no weights \(\*\.safetensors\)"):
        build_model(ModelConfig(name=str(tmp_path)), 2, RandomStreams())
