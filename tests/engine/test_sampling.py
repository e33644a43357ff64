"""Sampling as a product: what is written, that nothing but the X-ray decides it, and every request that is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from x2c.core.errors import UserError
from x2c.core.resolve import read_config, resolve
from x2c.core.run import RunDirectory
from x2c.core.script import PROJECT
from x2c.data.readers import read_radiograph
from x2c.data.volume import unwindow
from x2c.diffusion.guidance import UNKNOWN
from x2c.engine.build import build_denoiser
from x2c.engine.experiment import run as run_experiment
from x2c.engine.generator import Frame, Generator
from x2c.engine.parts import open_parts
from x2c.engine.sampling import Request, finished_run, sample_xrays, sampling_config
from x2c.engine.stages import trained_denoiser
from x2c.engine.volume_files import NOTICE, air_hu
from x2c.models.lora import save_adapters, with_adapters

REAL = Path(__file__).parents[3] / "shared/realdata"


@pytest.fixture(scope="module")
def run(smoke_cache, tmp_path_factory) -> Path:
    """A trained run."""
    places = [f"compute.cache={smoke_cache}", f"compute.runs={tmp_path_factory.mktemp('runs')}", "compute.tracker=[]"]
    return run_experiment(resolve("l1", "smoke", 0, places)).path


def another(run: Path, variant: str, folder: Path) -> Path:
    """A run of another variant, done but for the training: its weights are drawn, its frame is that of `run`."""
    places = [f"compute.cache={read_config(run / 'config.yaml').compute.cache}"]
    config = resolve(variant, "smoke", 0, places)
    directory = RunDirectory(folder / f"{variant}-smoke-s0-0123456789ab")
    directory.write_config(config)
    state = build_denoiser(config).state_dict()
    torch.manual_seed(0)
    # Output layer and label embeddings start at zero, where nothing has an effect.
    state = {name: value + 0.05 * torch.randn_like(value) for name, value in state.items()}
    save_file(state, directory.path / "denoiser.safetensors")
    shutil.copy(run / "sampling.json", directory.path)
    directory.report("done", "done")
    return directory.path


def write_xray(path: Path, seed: int = 0, size: tuple[int, int] = (96, 80)) -> Path:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 5), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def request_of(run, tmp_path):
    """Makes requests for one X-ray of the trained run."""
    xray = write_xray(tmp_path / "in" / "Smith_Jane.png")

    def make(**changes: object) -> Request:
        return replace(Request(run, xray, tmp_path / "out" / "volume.nii.gz"), **changes)

    return make


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(path))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_a_volume_is_what_the_generator_makes_of_the_xray(run, request_of):
    """Every step of the product by hand: reader, encoder, scale, noise name, window."""
    request = request_of()
    (made,) = sample_xrays(request)
    config = read_config(run / "config.yaml")
    frame = Frame.from_json(json.loads((run / "sampling.json").read_text()))
    parts = open_parts(config)
    parts.load_encoder()
    generate = Generator(
        config, trained_denoiser(config, RunDirectory(run)), parts.autoencoder, frame, torch.device("cpu")
    )
    embedding = parts.encoder.encode(torch.from_numpy(read_radiograph(request.xray))[None])
    sha = hashlib.sha256(request.xray.read_bytes()).hexdigest()
    volume = generate(frame.embeddings.to(embedding), [f"xray-{sha[:16]}-1"], torch.tensor([UNKNOWN]))
    expected = unwindow(volume[0].numpy(), -100, 900)
    np.testing.assert_array_equal(read(request.out), np.rint(expected).astype(np.int16))
    assert made.name == "volume.nii.gz"
    assert made.lowest_hu == pytest.approx(float(expected.min()))
    assert made.air == pytest.approx((expected <= -80).mean())


def test_the_files_of_one_xray(run, request_of):
    request = request_of()
    sample_xrays(request)
    assert set(contents(request.out.parent)) == {"volume.nii.gz", "volume.json", "volume.png"}
    image = sitk.ReadImage(request.out)
    z, y, x = json.loads((run / "sampling.json").read_text())["spacing_mm"]
    assert image.GetPixelID() == sitk.sitkInt16
    assert image.GetSpacing() == pytest.approx((x, y, z))
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    centre = [(size - 1) / 2 for size in image.GetSize()]
    assert image.TransformContinuousIndexToPhysicalPoint(centre) == pytest.approx((0, 0, 0), abs=1e-4)
    assert image.GetMetaData("descrip") == NOTICE
    with Image.open(request.out.with_name("volume.png")) as picture:
        assert picture.width > 2 * picture.height
    record = json.loads(request.out.with_name("volume.json").read_text())
    provenance = json.loads((run / "provenance.json").read_text())
    expected = {
        "notice": "Generated by a research model. Not a diagnostic image.",
        "run": run.name,
        "config": run.name[-12:],
        "variant": "l1",
        "commit": provenance["commit"],
        "seed": 0,
        "sampler": "dpm++",
        "steps": 4,
        "guidance": {"name": "none"},
        "label": None,
        "content": "sample 1 of 1",
        "window_hu": [-100, 900],
        "xray_number": 1,
        "xray_sha256": hashlib.sha256(request.xray.read_bytes()).hexdigest(),
    }
    assert expected.items() <= record.items()
    assert [stand_in["part"] for stand_in in record["stand_ins"]] == ["autoencoder", "encoder"]


def test_a_folder_gives_what_its_files_give_alone_and_hides_their_names(request_of, tmp_path):
    """Neither batch nor order nor the file's name matters."""
    xrays = [
        write_xray(tmp_path / "in" / name, seed) for seed, name in enumerate(("Smith_Jane.png", "Adams.png", "Zoe.png"))
    ]
    together = request_of(xray=tmp_path / "in", out=tmp_path / "all")
    made = sample_xrays(together)
    assert [m.name for m in made] == [f"xray_000{number}.nii.gz" for number in (1, 2, 3)]
    one_by_one = request_of(xray=tmp_path / "in", out=tmp_path / "ones", overrides=("evaluation.batch_size=1",))
    sample_xrays(one_by_one)
    volumes = []
    for number, xray in enumerate(sorted(xrays), start=1):
        volumes.append(read(together.out / f"xray_000{number}.nii.gz"))
        alone = request_of(xray=xray, out=tmp_path / f"{number}.nii.gz")
        sample_xrays(alone)
        np.testing.assert_allclose(read(alone.out), volumes[-1], atol=1)
        np.testing.assert_array_equal(read(alone.out), read(one_by_one.out / f"xray_000{number}.nii.gz"))
        record = json.loads((together.out / f"xray_000{number}.json").read_text())
        assert (record["xray_number"], record["xray_sha256"]) == (number, hashlib.sha256(xray.read_bytes()).hexdigest())
    assert np.abs(volumes[0] - volumes[1]).max() > 1
    for name, content in contents(together.out).items():
        plain = gzip.decompress(content) if name.endswith(".gz") else content
        for secret in (b"Smith", b"Adams", b"Zoe"):
            assert secret not in plain and secret.decode() not in name


def test_several_samples_with_their_mean_and_sd(request_of):
    request = request_of(samples=5)
    assert len(sample_xrays(request)) == 5
    folder = request.out.parent
    names = ["volume_1", "volume_2", "volume_3", "volume_4", "volume_5", "volume_mean", "volume_sd"]
    assert set(contents(folder)) == {f"{n}{end}" for n in names for end in (".nii.gz", ".json")} | {"volume.png"}
    volumes = np.stack([read(folder / f"volume_{number}.nii.gz") for number in range(1, 6)]).astype(float)
    assert np.abs(volumes[0] - volumes[1]).max() > 1
    np.testing.assert_allclose(read(folder / "volume_mean.nii.gz"), volumes.mean(0), atol=1.01)
    sd = sitk.ReadImage(folder / "volume_sd.nii.gz")
    assert sd.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_allclose(sitk.GetArrayFromImage(sd), volumes.std(0, ddof=1), atol=0.6)
    assert json.loads((folder / "volume_sd.json").read_text())["content"] == "standard deviation of 5 samples"


def test_the_seed_decides_the_noise(request_of, tmp_path):
    def volume(name: str, seed: int | None) -> np.ndarray:
        request = request_of(out=tmp_path / f"{name}.nii.gz", seed=seed)
        sample_xrays(request)
        assert json.loads((tmp_path / f"{name}.json").read_text())["seed"] == (seed or 0)
        return read(request.out)

    of_the_run = volume("a", None)
    np.testing.assert_array_equal(volume("b", 0), of_the_run)
    assert np.abs(volume("c", 7) - of_the_run).max() > 1


def test_the_sampler_can_be_changed(request_of):
    request = request_of(overrides=("sampler=ddim", "sampler.steps=2"))
    sample_xrays(request)
    record = json.loads(request.out.with_name("volume.json").read_text())
    assert (record["sampler"], record["steps"]) == ("ddim", 2)


def test_labels_and_their_scale(run, request_of, tmp_path):
    labelled = another(run, "label_cfg", tmp_path)
    volumes = {}
    for label, scale in (("unknown", 2), ("negative", 2), ("positive", 2), ("positive", 5)):
        out = tmp_path / f"{label}{scale}.nii.gz"
        sample_xrays(request_of(run=labelled, out=out, label=label, overrides=(f"guidance.scale={scale}",)))
        volumes[label, scale] = read(out)
        record = json.loads((tmp_path / f"{label}{scale}.json").read_text())
        assert (record["label"], record["guidance"]["scale"]) == (label, scale)
    for one, other in (
        (("unknown", 2), ("negative", 2)),
        (("negative", 2), ("positive", 2)),
        (("positive", 2), ("positive", 5)),
    ):
        assert np.abs(volumes[one] - volumes[other]).max() > 1, (one, other)


def test_a_run_scored_with_known_labels_samples_with_unknown_ones(run, request_of, tmp_path):
    known = finished_run(another(run, "label_cfg_known", tmp_path))
    assert sampling_config(request_of(), known).guidance.options.given == "unknown"
    assert sampling_config(request_of(label="positive"), known).guidance.options.given == "positive"
    with pytest.raises(UserError, match="leave one out"):
        sampling_config(request_of(label="positive", overrides=("guidance.given=negative",)), known)
    with pytest.raises(UserError, match="nobody knows"):
        sampling_config(request_of(overrides=("guidance.given=known",)), known)


def test_adapters_of_another_denoiser_are_refused(run, request_of, tmp_path):
    wider = read_config(run / "config.yaml", ["denoiser.dim=32"])
    save_adapters(with_adapters(build_denoiser(wider), 2), tmp_path / "adapter")
    with pytest.raises(UserError, match=r"adapter: expected adapters of this denoiser"):
        sample_xrays(request_of(adapter=tmp_path / "adapter"))


def test_adapters_change_the_volume_and_are_named_by_their_hash(run, request_of, tmp_path):
    adapted = with_adapters(build_denoiser(read_config(run / "config.yaml")), 2)
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.5)
    save_adapters(adapted, tmp_path / "adapter")
    plain, changed = request_of(out=tmp_path / "a.nii.gz"), request_of(out=tmp_path / "b.nii.gz")
    sample_xrays(plain)
    sample_xrays(replace(changed, adapter=tmp_path / "adapter"))
    assert np.abs(read(plain.out) - read(changed.out)).max() > 1
    weights = (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()
    assert json.loads((tmp_path / "b.json").read_text())["adapter_sha256"] == hashlib.sha256(weights).hexdigest()


def test_nothing_is_replaced_without_overwrite(request_of):
    request = request_of()
    request.out.parent.mkdir()
    request.out.with_name("volume.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"volume.png exists already; .* --overwrite"):
        sample_xrays(request)
    assert contents(request.out.parent) == {"volume.png": b"mine"}
    sample_xrays(replace(request, overwrite=True))
    assert len(contents(request.out.parent)) == 3
    assert request.out.with_name("volume.png").read_bytes() != b"mine"


def test_the_xray_itself_is_never_replaced(request_of, tmp_path):
    xray = write_xray(tmp_path / "in" / "chest.png")
    before = contents(tmp_path / "in")
    with pytest.raises(UserError, match=r"chest.png would be replaced"):
        sample_xrays(request_of(xray=xray, out=tmp_path / "in" / "chest.nii.gz", overwrite=True))
    with pytest.raises(UserError, match="among the X-rays"):
        sample_xrays(request_of(xray=tmp_path / "in", out=tmp_path / "in", overwrite=True))
    assert contents(tmp_path / "in") == before


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / run.name))


def break_status(run: Path) -> None:
    RunDirectory(run).report("failed", "train xray", reason="NonFiniteLoss: step 3")


def break_weights(run: Path) -> None:
    state = load_file(run / "denoiser.safetensors")
    state["extra"] = state.pop("to_out.weight")[:1].clone()
    save_file(state, run / "denoiser.safetensors")


def cut_weights(run: Path) -> None:
    whole = (run / "denoiser.safetensors").read_bytes()
    (run / "denoiser.safetensors").write_bytes(whole[: len(whole) // 2])


def break_config(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("name: clip_standin", "name: clip_old"))


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (break_status, ["--run", "failed (train xray)", "NonFiniteLoss: step 3"]),
        (lambda run: RunDirectory(run).report("running", "sample"), ["--run", "running (sample)"]),
        (lambda run: (run / "status.json").unlink(), ["--run", "not begun"]),
        (lambda run: (run / "sampling.json").unlink(), ["--run", "no sampling.json", "baseline"]),
        (break_weights, ["denoiser.safetensors", "missing (to_out.weight)", "unknown (extra)"]),
        (cut_weights, ["denoiser.safetensors", "not readable"]),
        (break_config, ["config.yaml", "unknown encoder 'clip_old'", "clip_standin"]),
        (lambda run: (run / "config.yaml").write_text("a: b: c"), ["config.yaml", "not valid YAML"]),
        (shutil.rmtree, ["--run: no folder", "runs/full"]),
    ],
)
def test_runs_that_cannot_be_sampled(spoil, parts, run, request_of, tmp_path):
    spoilt = copy_of(run, tmp_path)
    spoil(spoilt)
    request = request_of(run=spoilt)
    with pytest.raises(UserError) as caught:
        sample_xrays(request)
    for part in parts:
        assert part in str(caught.value)
    assert contents(request.out.parent) == {}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"xray": "nothing.png"}, ["--xray: no file or folder", "nothing.png"]),
        ({"xray": "empty", "out": "out"}, ["empty: expected radiographs (.png, .jpg, .jpeg, .dcm)"]),
        ({"xray": "broken.png"}, ["broken.png", "not a whole picture"]),
        ({"xray": "mixed", "out": "out"}, ["broken.png", "not a whole picture"]),
        ({"xray": "volume.nii"}, ["volume.nii", "CT volume will not do"]),
        ({"out": "out"}, ["--out: expected a file NAME.nii.gz", "out"]),
        ({"out": "volume.nii"}, ["--out: expected a file NAME.nii.gz"]),
        ({"xray": "mixed", "out": "volume.nii.gz"}, ["--out: expected a folder"]),
        ({"adapter": "empty"}, ["empty", "peft's format", "adapter_config.json"]),
        ({"label": "positive"}, ["--label", "guidance by label", "'none'"]),
        ({"seed": -1}, ["seed", "greater than or equal to 0", "-1"]),
        ({"overrides": ("guidance.scale=3",)}, ["--guidance.scale", "'none'", "no scale"]),
        ({"overrides": ("denoiser.dim=32",)}, ["--denoiser.dim", "sampling can change", "sampler"]),
        ({"overrides": ("compute.runs=elsewhere",)}, ["--compute.runs", "sampling can change"]),
        ({"overrides": ("guidance=label",)}, ["--guidance", "sampling can change"]),
        ({"overrides": ("sampler=dmp++",)}, ["sampler", "did you mean 'dpm++'"]),
        ({"overrides": ("sampler=ddim",)}, ["sampler.steps", "a value is needed"]),
        ({"overrides": ("sampler.stesp=3",)}, ["sampler.stesp", "did you mean 'steps'"]),
        ({"overrides": ("sampler.steps=5000",)}, ["sampler.steps", "at most", "5000"]),
    ],
)
def test_requests_that_are_refused(changes, parts, request_of, tmp_path):
    (tmp_path / "empty").mkdir()
    write_xray(tmp_path / "mixed" / "whole.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "mixed" / "whole.png").read_bytes()[:300])
    shutil.copy(tmp_path / "broken.png", tmp_path / "mixed")
    (tmp_path / "volume.nii").write_bytes(b"\x5c\x01\x00\x00" + bytes(400))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    places = {key: tmp_path / changes[key] for key in ("xray", "out", "adapter") if key in changes}
    with pytest.raises(UserError) as caught:
        sample_xrays(request_of(**{**changes, **places}))
    for part in parts:
        assert part in str(caught.value)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(not REAL.exists(), reason="needs shared/realdata beside the checkout")
def test_a_real_radiograph_and_a_real_ct(request_of):
    with pytest.raises(UserError, match=r"0\.dcm: expected a chest radiograph \(DICOM CR or DX\); came CT"):
        sample_xrays(request_of(xray=REAL / "ct/dicom_slices/0.dcm"))
    request = request_of(xray=REAL / "cxr/00000001_000.png")
    sample_xrays(request)
    assert read(request.out).shape == (8, 32, 32)


@pytest.mark.slow
def test_a_cache_without_the_autoencoder_makes_the_same_one_again(run, request_of, tmp_path, capsys):
    here, elsewhere = request_of(), request_of(out=tmp_path / "elsewhere.nii.gz")
    sample_xrays(here)
    assert "making it again" not in capsys.readouterr().err
    sample_xrays(replace(elsewhere, overrides=(f"compute.cache={tmp_path / 'cache'}",)))
    told = " ".join(capsys.readouterr().err.split())
    assert "kl_standin" in told
    assert "making it again" in told
    np.testing.assert_allclose(read(elsewhere.out), read(here.out), atol=1)


def test_what_counts_as_lung():
    assert air_hu((-100, 900)) == -80
    assert air_hu((-1200, 600)) == -500


def typed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "x2c/sample.py", *map(str, arguments)], cwd=PROJECT, capture_output=True, text=True
    )


def test_help_teaches_without_importing_torch():
    code = (
        "import runpy, sys; sys.argv = ['sample.py', '--help']\n"
        "try: runpy.run_path('x2c/sample.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch imported:', 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True).stdout
    assert "torch imported: False" in shown
    for word in ("--xray", "--samples", "sha256", "sampler.steps", "not for diagnosis"):
        assert word in shown


@pytest.mark.slow
def test_as_typed(run, request_of, tmp_path):
    request = request_of()
    line = ["--run", run, "--xray", request.xray, "--out", request.out, "--sampler.steps=2"]
    first = typed(*line)
    assert first.returncode == 0, first.stderr
    for part in ("volume.nii.gz", "lung or air", "seconds", "Not a diagnostic"):
        assert part in first.stdout
    assert json.loads(request.out.with_name("volume.json").read_text())["steps"] == 2
    again = typed(*line)
    assert again.returncode == 2
    assert len(again.stderr.strip().splitlines()) == 1
    assert "--overwrite" in again.stderr


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--samples", "0"], "--samples"),
        (["--label", "maybe"], "--label"),
        (["--smaples", "3"], "did you mean --samples?"),
        (["--out"], "--out"),
    ],
)
def test_a_wrong_option_is_one_line(more, part):
    shown = typed("--run", "r", "--xray", "x", "--out", "o", *more)
    assert shown.returncode == 2
    assert len(shown.stderr.strip().splitlines()) == 1
    assert part in shown.stderr


def test_adapters_bring_their_own_window_and_know_their_base(smoke_cache, tmp_path):
    """Adapters of a fine-tuned run on the run they fine-tune give the volumes of the fine-tuned run."""
    places = [f"compute.cache={smoke_cache}", f"compute.runs={tmp_path / 'runs'}", "compute.tracker=[]"]
    base, tuned, stranger = (
        run_experiment(resolve(variant, "smoke", 0, places)).path for variant in ("full", "lidc_lora", "l1")
    )
    radiograph = tmp_path / "xray.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80), dtype=np.uint8)).save(radiograph)
    sample_xrays(Request(tuned, radiograph, tmp_path / "alone.nii.gz"))
    sample_xrays(Request(base, radiograph, tmp_path / "merged.nii.gz", adapter=tuned / "adapter"))
    alone, merged = (
        sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / f"{name}.nii.gz")) for name in ("alone", "merged")
    )
    np.testing.assert_array_equal(alone, merged)
    assert alone.min() < -500, "the window of the fine-tuned run, not of its base"
    with pytest.raises(UserError, match="was trained on other weights"):
        sample_xrays(Request(stranger, radiograph, tmp_path / "no.nii.gz", adapter=tuned / "adapter"))
