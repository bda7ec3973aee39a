"""`doctor --bisect` names the node with a planted fault, and no node in a correct bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.export.bundle_draft import bundle_draft
from mafsar.export.verify.bisect import bisect
from mafsar.runtime.engines.bundle import Bundle


def plant(bundle: Path, graph: str, which: int) -> str:
    """Damages the weights of one product; returns the name of its result."""
    model = ir.load(bundle / graph)
    products = [
        node
        for node in model.graph
        if node.op_type == "MatMul" and node.inputs[1].const_value is not None
    ]
    node = products[which]
    value = node.inputs[1]
    damaged = value.const_value.numpy()[::-1].copy()
    twin = ir.Value(name="damaged", const_value=ir.tensor(damaged, name="damaged"))
    model.graph.register_initializer(twin)
    node.replace_input_with(1, twin)
    with bundle_draft(bundle, bundle) as draft:
        (draft.folder / graph).unlink()
        ir.save(model, draft.folder / graph)
    return str(node.outputs[0].name)


def test_a_correct_bundle_has_no_departure(whole: Path) -> None:
    found = list(bisect(Bundle.open(whole)))
    assert [item.graph for item in found] == ["query-fp16.onnx", "support-fp16.onnx"]
    for item in found:
        assert not item.departs
        assert 0.999 < item.cosine < 1
        assert item.nodes > 100
    assert not [path for path in whole.iterdir() if path.name.startswith(".")]


def test_the_planted_node_is_named(whole: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(whole, tmp_path / "b.mafsar"))
    for which in (5, 14):
        shutil.rmtree(bundle)
        shutil.copytree(whole, bundle)
        name = plant(bundle, "support-fp16.onnx", which)
        query, support = bisect(Bundle.open(bundle))
        assert not query.departs
        assert support.departs
        assert support.node == f"MatMul {name}"
        assert np.isfinite(support.largest)
    done = CliRunner().invoke(build_app(), ["doctor", "--bisect", str(bundle), "--json"])
    assert done.exit_code == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["departs"] for row in rows] == [False, True]
    assert f"support-fp16.onnx departs from fp32 at MatMul {name}" in done.stderr
    sound = CliRunner().invoke(build_app(), ["doctor", "--bisect", str(whole)])
    assert sound.exit_code == 0, sound.stderr
    assert "no node departs" in sound.stdout
