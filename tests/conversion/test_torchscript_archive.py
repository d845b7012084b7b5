# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""TorchScript archives are data: what `torch.jit.load` gives is read, and nothing in them is run."""

import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch

from lumos_hf.conversion.torchscript_archive import read_torchscript_tensors
from lumos_hf.conversion.weight_files import read_tensors

from .official_release import save_archive


class Restored(torch.nn.Module):
    """Writes to a file when `torch.jit.load` restores it: a stand-in for any code."""

    def __init__(self, path: str, weight: torch.Tensor):
        super().__init__()
        self.path = path
        self.weight = torch.nn.Parameter(weight)

    @torch.jit.export
    def __getstate__(self):
        return self.path, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, torch.Tensor, bool]):
        self.path = state[0]
        self.weight = state[1]
        self.training = state[2]
        torch.save(state[1], state[0])

    def forward(self, x):
        return x


class Attributes(torch.nn.Module):
    """With attributes of the types that scripted modules have."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv3d(2, 3, (1, 3, 3))
        self.register_buffer("steps", torch.arange(6).view(2, 3).t())
        self.register_buffer("nothing", torch.zeros(0))
        self.narrow = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
        self.sizes, self.factors, self.flags = [1, 2], [0.5], [True]
        self.kept, self.table = [torch.zeros(2)], {"a": torch.ones(1)}
        self.pair, self.nobody, self.name, self.device = (1, 2**40), None, "ä", torch.device("cpu")

    def forward(self, x):
        return self.conv(x) * self.sizes[0] * self.factors[0] + self.kept[0].sum() + self.table["a"]


@pytest.fixture
def archive(tmp_path):
    torch.jit.script(Attributes()).save(tmp_path / "module.jit")
    return tmp_path / "module.jit"


def change_records(path, change):
    """Writes the archive again with other records, by name without their folder."""
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].partition("/")[0]
        records = {name.removeprefix(f"{folder}/"): archive.read(name) for name in archive.namelist()}
    records = change(records) or records
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"{folder}/{name}", content)


def test_tensors_are_those_of_the_state_dict(archive):
    tensors, expected = read_torchscript_tensors(archive), torch.jit.load(archive).state_dict()
    assert set(tensors) == set(expected) == {"conv.weight", "conv.bias", "steps", "nothing", "narrow"}
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor), name


def test_traced_modules_are_read_too(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv3d(2, 2, 1), torch.nn.Sequential(torch.nn.BatchNorm3d(2)))
    torch.jit.trace(module.eval(), torch.zeros(1, 2, 1, 4, 4)).save(tmp_path / "module.jit")
    tensors, expected = read_torchscript_tensors(tmp_path / "module.jit"), module.state_dict()
    assert set(tensors) == set(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())


def test_weights_can_be_changed_in_place(archive):
    read_torchscript_tensors(archive)["conv.bias"].fill_(1)


# Attacks. Each is refused, in one line that names the file, and writes nothing.


def test_the_attack_works_on_torch(tmp_path):
    """So that the tests below are ones: this is what must not happen."""
    torch.jit.script(Restored(str(tmp_path / "written"), torch.ones(2))).save(tmp_path / "encoder.jit")
    torch.jit.load(tmp_path / "encoder.jit")
    assert (tmp_path / "written").exists()


def restores_itself(path, target):
    torch.jit.script(Restored(str(target), torch.ones(2))).save(path)
    return "an object that only code of the archive could restore"


def restores_a_part_of_itself(path, target):
    module = torch.nn.Module()
    module.add_module("encoder", Restored(str(target), torch.ones(2)))
    torch.jit.script(module).save(path)
    return "an object that only code of the archive could restore"


class Command:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def calls(function):
    def break_archive(path, target):
        save_archive({"weight": torch.ones(2)}, path)
        content = pickle.dumps({"a": Command(function, str(target), "w")}, protocol=2)
        change_records(path, lambda records: {**records, "data.pkl": content})
        return "which is neither a tensor nor a module"

    return break_archive


def newer_protocol(path, target):
    save_archive({"weight": torch.ones(2)}, path)
    content = pickle.dumps(Command(open, str(target), "w"), protocol=4)
    change_records(path, lambda records: {**records, "data.pkl": content})
    return "has the operation FRAME, which PyTorch does not write"


def names_builtins_in_its_code(path, target):
    """A class of the archive stays an inert one, whatever its name is and its code says."""
    save_archive({"weight": torch.ones(2)}, path)
    code = f"class open(Module):\n  def __setstate__(self, state: str) -> None:\n    open({str(target)!r}, 'w')\n"
    pickled = b"\x80\x02c__torch__.builtins\nopen\n)\x81X\x01\x00\x00\x00ab."
    change_records(path, lambda records: {**records, "data.pkl": pickled, "code/__torch__/builtins.py": code.encode()})
    return "an object that only code of the archive could restore"


def calls_a_class_of_its_own(path, target):
    save_archive({"weight": torch.ones(2)}, path)
    pickled = b"\x80\x02c__torch__.m\nModule\nX\x01\x00\x00\x00a\x85R."
    change_records(path, lambda records: {**records, "data.pkl": pickled})
    return "takes no arguments"


def pickle_of_torch_save(path, target):
    torch.save({"a": Command(open, str(target), "w")}, path)
    return "it has no data.pkl and constants.pkl"


def not_a_zip_file(path, target):
    path.write_bytes(pickle.dumps(Command(open, str(target), "w")))
    return "not a zip file"


def a_dictionary_instead_of_a_module(path, target):
    save_archive({"weight": torch.ones(2)}, path)
    change_records(path, lambda records: {**records, "data.pkl": pickle.dumps(OrderedDict(), protocol=2)})
    return "must hold a module, got OrderedDict"


ATTACKS = {
    "restores itself": restores_itself,
    "restores a part of itself": restores_a_part_of_itself,
    "calls open": calls(open),
    "calls exec": calls(exec),
    "calls torch": calls(torch.save),
    "newer protocol": newer_protocol,
    "names builtins in its code": names_builtins_in_its_code,
    "calls a class of its own": calls_a_class_of_its_own,
    "pickle of torch.save": pickle_of_torch_save,
    "no zip file": not_a_zip_file,
    "dictionary": a_dictionary_instead_of_a_module,
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_attacks_are_refused(tmp_path, attack):
    (tmp_path / "given").mkdir()
    message = attack(tmp_path / "given" / "encoder.jit", tmp_path / "written")
    with pytest.raises(ValueError, match=rf"encoder.jit' must be a TorchScript archive, .*{message}") as error:
        read_tensors(tmp_path / "given" / "encoder.jit")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


# Sizes that are not there


def replace_in_pickle(records, old, new):
    assert records["data.pkl"].count(old) >= 1
    records["data.pkl"] = records["data.pkl"].replace(old, new, 1)


def shorter_record(records):
    records["data/0"] = records["data/0"][:-4]
    return "its record data/0 must have 24 bytes, got 20"


def no_record(records):
    del records["data/0"]
    return "its record data/0 must have 24 bytes, got None"


@pytest.mark.parametrize("change", [shorter_record, no_record])
def test_records_have_the_declared_size(tmp_path, change):
    save_archive({"weight": torch.ones(2, 3)}, tmp_path / "encoder.jit")
    messages = []
    change_records(tmp_path / "encoder.jit", lambda records: messages.append(change(records)))
    with pytest.raises(ValueError, match=f"encoder.jit' must be a TorchScript archive, .*{messages[0]}"):
        read_tensors(tmp_path / "encoder.jit")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(K\x02K\x03t", b"(K\x02M\xff\xfft"),
        (b"(K\x02K\x03t", b"(K\x02J\xff\xff\xff\xfft"),
        (b"(K\x03K\x01t", b"(K\x09K\x01t"),
        (b"(K\x02K\x03t", b"(K\x02K\x03K\x00t"),
    ],
    ids=["large", "negative", "beyond the end", "another rank"],
)
def test_tensors_fit_their_records(tmp_path, old, new):
    save_archive({"weight": torch.ones(2, 3)}, tmp_path / "encoder.jit")

    def change(records):
        for number in range(20):  # Memos between the operations.
            records["data.pkl"] = records["data.pkl"].replace(b"q" + bytes([number]), b"")
        replace_in_pickle(records, old, new)

    change_records(tmp_path / "encoder.jit", change)
    with pytest.raises(ValueError, match="encoder.jit' must be a TorchScript archive"):
        read_tensors(tmp_path / "encoder.jit")


@pytest.mark.slow
def test_compressed_records_are_refused(tmp_path):
    """A zip bomb has to be compressed."""
    path = tmp_path / "encoder.jit"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("encoder/constants.pkl", b"\x80\x02).")
        archive.writestr("encoder/data.pkl", b"\0" * 2**24)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="encoder.jit' .* its record data.pkl must not be compressed"):
        read_tensors(path)


@pytest.mark.slow
def test_endless_names_are_refused(tmp_path):
    """Forty modules that hold the next one twice: a million million names in 2 kB."""
    save_archive({"weight": torch.ones(2)}, tmp_path / "encoder.jit")
    module = b"c__torch__.m\nModule\n)\x81"
    pickled = module + b"}b"
    for _ in range(40):
        pickled += b"q\x010" + module + b"}(X\x01\x00\x00\x00ah\x01X\x01\x00\x00\x00bh\x01ub"
    change_records(tmp_path / "encoder.jit", lambda records: {**records, "data.pkl": b"\x80\x02" + pickled + b"."})
    with pytest.raises(ValueError, match="encoder.jit' .* it has more than 100000 names"):
        read_tensors(tmp_path / "encoder.jit")


def test_huge_numbers_of_memos_are_refused(tmp_path):
    save_archive({"weight": torch.ones(2)}, tmp_path / "encoder.jit")
    pickled = b"\x80\x02c__torch__.m\nModule\n)\x81r\xff\xff\xff\x7f}b."
    change_records(tmp_path / "encoder.jit", lambda records: {**records, "data.pkl": pickled})
    with pytest.raises(ValueError, match="encoder.jit' .* counts 2147483647 objects in 32 bytes"):
        read_tensors(tmp_path / "encoder.jit")
