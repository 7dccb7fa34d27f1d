"""`benchmarks/gpu_check.py` without a GPU: its verdicts, and its stand-in for ml_collections."""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys

import pytest

from animesion_jax.config import build, default_config, stage_configs, to_tree
from animesion_jax.models import family_of
from benchmarks import gpu_check
from tests.conftest import ROOT


@pytest.mark.parametrize("error, good", [(0.5, True), (1.0, True), (1.1, False), (math.nan, False)])
def test_logits_are_good_up_to_their_tolerance(error, good):
    result = {"errors": {"float32": 0, "tf32": error, "bfloat16": 0}, "allowed": dict.fromkeys(gpu_check.PRECISIONS, 1)}
    row, is_good = gpu_check.format_logits({"model": "resnet18"}, result)
    assert (is_good, row.endswith("| yes |")) == (good, good)


@pytest.mark.parametrize("error, good", [(0.02, True), (0.021, False), (math.nan, False)])
def test_attention_is_good_up_to_twice_the_errors_of_xla(error, good):
    result = {
        "kernels": ["fmhaSoftmax"], "reason": "", "errors": {"xla": 0.01, "cudnn": error},
        "milliseconds": dict.fromkeys(("cudnn", "xla", "float32"), 1.0),
    }  # fmt: skip
    assert gpu_check.format_attention(result)[1] == good


def test_attention_that_is_not_called_is_named_with_its_reason():
    result = {
        "kernels": [], "reason": "cuDNN is not detected.", "errors": {"xla": 0.01, "cudnn": 0.01},
        "milliseconds": dict.fromkeys(("cudnn", "xla", "float32"), 1.0),
    }  # fmt: skip
    assert gpu_check.format_attention(result)[0].startswith("cuDNN's attention: NOT called. cuDNN is not detected.")


def test_missing_results_fail_the_check():
    missing = {"error": "skipped, no time left"}
    assert not gpu_check.print_results(iter([({"of": "logits", "model": "resnet18"}, missing)]), 1.0)
    assert not gpu_check.print_results(iter([({"of": "attention"}, missing)]), 1.0)


def test_each_family_is_checked_before_any_step_is_timed():
    cases = list(gpu_check.list_cases(False, 3))
    logits, rest = cases[: len(gpu_check.CASES)], cases[len(gpu_check.CASES) :]
    assert {family_of(case["model"]).name for case in logits} == {"shallownet", "resnet", "vit"}
    assert [case["of"] for case in rest] == ["attention", *["ours", "compile"] * 5, "unfused"]


def test_command_without_time_says_so_and_fails(tmp_path):
    environment = {**os.environ, "OUT": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--budget=0"]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", cwd=tmp_path)
    assert (done.returncode, "no time left" in done.stderr) == (1, True)
    lines = (tmp_path / "gpu_check.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["of"] for line in lines] == ["matmul"]


def test_check_without_a_gpu_fails_unless_it_is_a_rehearsal(monkeypatch, tmp_path):
    machine = {"flops_per_second": 1e11, "device": "1 x cpu", "backend": "cpu", "versions": "jax"}
    monkeypatch.setattr(gpu_check, "measure", lambda *_: machine)
    monkeypatch.setenv(gpu_check.LOCK, "")
    flags = argparse.Namespace(budget=420, output=tmp_path / "results.jsonl", readings=1, rehearse=False)
    with pytest.raises(SystemExit, match="JAX finds no GPU, only 1 x cpu; allowed: --rehearse"):
        gpu_check.check(flags)


@pytest.mark.parametrize("model", ["vit_b16", "resnet18"])
def test_stand_in_makes_the_configs_of_ml_collections(monkeypatch, model):
    def resolved():
        config = default_config()
        config.model, config.batch_size = model, 8
        config.stages = (build.stage(epochs=2, augment={"flip": 0.0}),)
        return [to_tree(each) for each in stage_configs(config, family_of(model))]

    expected = resolved()
    path = ROOT / "benchmarks" / "stand_ins" / "ml_collections.py"
    spec = importlib.util.spec_from_file_location("stand_in", path)
    stand_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    monkeypatch.setattr(build, "ml_collections", stand_in)
    monkeypatch.setattr(build, "config_dict", stand_in.config_dict)
    assert isinstance(default_config(), stand_in.ConfigDict)
    assert resolved() == expected
