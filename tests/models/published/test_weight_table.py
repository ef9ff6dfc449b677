"""Published weights: all of them come in under our names, or none does and the reason says which do not fit."""

import json
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rlaif.models.published.weight_table import PublishedWeightsError, WeightTable, load_published, read_published

TABLE = WeightTable(
    renames=((r"tower\.(\d+)\.kernel", r"\1.weight"), (r"tower\.(\d+)\.shift", r"\1.bias")),
    dropped=(r"head\..*",),
    new=(r"1\..*",),
    changes=((r"0\.bias", lambda value: -value),),
)


def module() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))


def published() -> dict[str, Tensor]:
    return {
        "tower.0.kernel": torch.arange(6.0).view(3, 2),
        "tower.0.shift": torch.tensor([1.0, 2.0, 3.0]),
        "head.weight": torch.zeros(9),
    }


def test_values_come_in_under_our_names_and_new_ones_keep_their_start() -> None:
    model = module().to(torch.bfloat16)
    load_published(model, published(), TABLE, "weights.pth")
    assert model[0].weight.dtype == torch.bfloat16
    assert model[0].weight.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert model[0].bias.tolist() == [-1, -2, -3]  # as the table's change has it
    assert model[1].weight.tolist() == [1, 1, 1]


def test_one_error_lists_all_that_does_not_fit_and_nothing_is_loaded() -> None:
    model = module()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = published() | {"tower.7.kernel": torch.zeros(1), "trunk.weight": torch.zeros(1)}
    weights["tower.0.kernel"] = torch.zeros(2, 3)
    del weights["tower.0.shift"]
    with pytest.raises(PublishedWeightsError) as caught:
        load_published(model, weights, TABLE, "weights.pth")
    message = str(caught.value)
    assert message.startswith("weights.pth does not fit Sequential")
    assert "1 missing: 0.bias" in message
    assert "2 unknown: tower.7.kernel (here 7.weight), trunk.weight" in message
    assert "1 of another shape: 0.weight [2, 3] numbers, here [3, 2] numbers" in message
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_two_published_names_for_one_of_ours_are_refused() -> None:
    table = WeightTable(renames=((r"(?:old\.)?(.*)", r"\1"),))
    weights = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2), "old.bias": torch.ones(2)}
    with pytest.raises(PublishedWeightsError, match=r"1 twice: old\.bias \(here bias\)"):
        load_published(nn.Linear(2, 2), weights, table, "weights.pth")


def test_a_long_list_is_cut() -> None:
    weights = published() | {f"other.{number:02}": torch.zeros(1) for number in range(20)}
    with pytest.raises(PublishedWeightsError, match=r"20 unknown: other\.00, .*, other\.07 and 12 more"):
        load_published(module(), weights, TABLE, "weights.pth")


def test_values_and_a_module_without_storage_are_not_taken_for_loaded() -> None:
    with pytest.raises(PublishedWeightsError, match=r"0\.weight \[3, 2\] numbers, here \[3, 2\] .*meta"):
        load_published(module().to("meta"), published(), TABLE, "weights.pth")
    # Names and shapes alone can be checked, without the memory of a whole model.
    on_meta = {name: value.to("meta") for name, value in published().items()}
    load_published(module().to("meta"), on_meta, TABLE, "weights.pth")
    with pytest.raises(PublishedWeightsError, match="without values"):
        load_published(module(), on_meta, TABLE, "weights.pth")


def test_counters_are_not_taken_for_weights() -> None:
    with pytest.raises(PublishedWeightsError, match=r"0\.bias \[3\] int64, here \[3\] numbers"):
        load_published(module(), published() | {"tower.0.shift": torch.tensor([1, 2, 3])}, TABLE, "weights.pth")


@pytest.mark.parametrize("ending", ["pt", "pth", "bin"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_torch_files_are_read(tmp_path: Path, ending: str, wrapped: bool) -> None:
    path = tmp_path / f"weights.{ending}"
    torch.save({"state_dict": published(), "step": 3} if wrapped else published(), path)
    read = read_published(path)
    assert read.keys() == published().keys() and torch.equal(read["tower.0.shift"], published()["tower.0.shift"])


def test_torch_files_of_the_old_form_are_read(tmp_path: Path) -> None:
    torch.save(published(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_published(tmp_path / "old.pth").keys() == published().keys()


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_folders_are_read_by_their_index_or_their_one_file(tmp_path: Path, ending: str) -> None:
    stem = "model" if ending == "safetensors" else "pytorch_model"

    def save(weights: dict[str, Tensor], path: Path) -> None:
        save_file(weights, path) if ending == "safetensors" else torch.save(weights, path)

    single, parted = tmp_path / "single", tmp_path / "parted"
    single.mkdir()
    parted.mkdir()
    save(published(), single / f"{stem}.{ending}")
    files = {name: f"{stem}-{number}.{ending}" for number, name in enumerate(published())}
    for name, file in files.items():
        save({name: published()[name]}, parted / file)
    (parted / f"{stem}.{ending}.index.json").write_text(json.dumps({"weight_map": files}))
    for folder in (single, parted):
        read = read_published(folder)
        assert read.keys() == published().keys()
        assert all(torch.equal(value, published()[name]) for name, value in read.items())


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "ran",))

    with (tmp_path / "harmful.bin").open("wb") as file:
        pickle.dump({"weight": Harmful()}, file, protocol=2)
    torch.save({"weight": Harmful()}, tmp_path / "harmful.pt")
    for name in ("harmful.bin", "harmful.pt"):
        with pytest.raises(
            PublishedWeightsError, match=f"{name} cannot be read: it .* holds more than tensors"
        ) as caught:
            read_published(tmp_path / name)
        assert "weights_only" not in str(caught.value) and "export it as a plain state dict" in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["torn.pt", "torn.safetensors", "empty.bin"])
def test_damaged_files_are_refused_with_their_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_file(published(), path) if name.endswith("safetensors") else torch.save(published(), path)
    path.write_bytes(b"" if name == "empty.bin" else path.read_bytes()[:100])
    with pytest.raises(PublishedWeightsError, match=f"{name} cannot be read"):
        read_published(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [False, True])
def test_flipped_bytes_are_damage_and_never_another_error(tmp_path: Path, zipped: bool) -> None:
    path, draw = tmp_path / "flipped.bin", random.Random(0)
    torch.save(published(), path, _use_new_zipfile_serialization=zipped)
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        flipped = bytearray(whole)
        for _ in range(3):
            flipped[draw.randrange(600)] = draw.randrange(256)
        path.write_bytes(flipped)
        try:
            read_published(path)
        except PublishedWeightsError as error:
            assert str(error).startswith(str(path)) and "weights_only" not in str(error)
            refused += 1
    assert refused > 200


def test_a_pickle_that_takes_from_an_empty_stack_is_damage(tmp_path: Path) -> None:
    (tmp_path / "stack.bin").write_bytes(b"\x80\x02\x85.")
    with pytest.raises(PublishedWeightsError, match=r"stack\.bin cannot be read"):
        read_published(tmp_path / "stack.bin")


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_and_quantised_tensors_are_refused(tmp_path: Path) -> None:
    small = torch.zeros(2, 2)
    torch.save({"weight": small.to_sparse(), "bias": small}, tmp_path / "sparse.pt")
    torch.save({"weight": small.to_sparse_csr()}, tmp_path / "rows.pt")
    torch.save({"weight": small.to(torch.float8_e4m3fn)}, tmp_path / "eight.pt")
    save_file({"weight": small.to(torch.float8_e5m2)}, tmp_path / "eight.safetensors")
    for name, reason in (
        ("sparse.pt", "holds sparse tensors: weight; export them dense"),
        ("rows.pt", "holds sparse tensors: weight; export them dense"),
        ("eight.pt", r"holds quantised tensors: weight \(float8_e4m3fn\); take or export the weights as bfloat16"),
        ("eight.safetensors", r"holds quantised tensors: weight \(float8_e5m2\)"),
    ):
        with pytest.raises(PublishedWeightsError, match=f"{name} {reason}"):
            read_published(tmp_path / name)


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused_where_they_would_be_loaded(wild: float) -> None:
    model = module()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = published()
    weights["tower.0.shift"][1] = wild
    with pytest.raises(
        PublishedWeightsError, match=r"weights\.pth has 1 weights with values .* not finite .*: 0\.bias;"
    ):
        load_published(model, weights, TABLE, "weights.pth")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    # What has no place here may be a mask.
    load_published(model, published() | {"head.weight": torch.tensor([wild])}, TABLE, "weights.pth")


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.ckpt").touch()
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"weight": torch.zeros(1), "epoch": 3}, tmp_path / "mixed.pt")
    for name, reason in (
        ("weights.ckpt", "has the ending '.ckpt'"),
        ("absent.pt", "absent.pt does not exist"),
        ("list.pt", "holds no named tensors but list"),
        ("mixed.pt", "holds more than named tensors: epoch"),
        ("", "holds no weights"),
    ):
        with pytest.raises(PublishedWeightsError, match=reason):
            read_published(tmp_path / name)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", "has no weight_map"),
        ('{"weight_map": {"a": 3}}', "has no weight_map"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', "must stand in the index's own folder"),
        ('{"weight_map": {"a": "/secret.safetensors"}}', "must stand in the index's own folder"),
        ('{"weight_map": {"a": ""}}', "must stand in the index's own folder, as a file"),
        ('{"weight_map": {"a": "."}}', "must stand in the index's own folder, as a file"),
        ('{"weight_map": {"a": ".."}}', "must stand in the index's own folder, as a file"),
        ('{"weight_map": {"a": "loop"}}', "must stand in the index's own folder, as a file"),
        ('{"weight_map": {"a": "' + "x" * 300 + '"}}', "must stand in the index's own folder, as a file"),
        ('{"weight_map": {"a": "absent.safetensors"}}', "absent.safetensors does not exist"),
        ('{"weight_map": {"a": "part.safetensors"}}', "part.safetensors lacks what .* says is in it: a"),
    ],
)
def test_a_bad_index_is_refused(tmp_path: Path, index: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "loop").symlink_to(".")
    save_file(published(), tmp_path / "secret.safetensors")
    save_file(published(), tmp_path / "folder" / "part.safetensors")
    (tmp_path / "folder" / "model.safetensors.index.json").write_text(index)
    with pytest.raises(PublishedWeightsError, match=reason):
        read_published(tmp_path / "folder")


def test_an_index_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors.index.json").open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(PublishedWeightsError, match="is larger than 64 MB"):
        read_published(tmp_path)
