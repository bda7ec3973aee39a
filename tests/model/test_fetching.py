"""What a file names is not downloaded: neither by a bank nor by a run folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from mafsar.errors import UnavailableError
from mafsar.model.fetching import may_fetch, nothing_fetched
from mafsar.model.sources import create_network, load_trained


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that has nothing in its cache, and is not asked."""
    hub = pytest.importorskip("huggingface_hub")

    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(hub, "hf_hub_download", fetch)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("mafsar.model.sources._resolves", fetch)


@pytest.mark.parametrize("name", ["hf-hub:evil/evil", "vit-b-32", "ViT-B-16:laion2b_s34b_b88k"])
def test_nothing_is_fetched_in_the_block(name: str) -> None:
    with (
        nothing_fetched(),
        pytest.raises(UnavailableError, match="nothing is downloaded for a name"),
    ):
        create_network(name)
    assert may_fetch()


def test_a_run_folder_cannot_name_a_model_of_the_hub(tmp_path: Path) -> None:
    network = create_network("tiny:random", adapters=True)
    config = network.config.to_json() | {"name": "hf-hub:evil/evil"}
    metadata = {"config": json.dumps(config), "base_sha256": "0" * 64}
    state = {name: value.detach() for name, value in network.tunable_parameters().items()}
    save_file(state, tmp_path / "adapters.safetensors", metadata)
    with pytest.raises(UnavailableError, match=r"hf-hub:evil/evil: .*nothing is downloaded"):
        load_trained(tmp_path)
