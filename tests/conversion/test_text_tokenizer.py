# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Text tokenizers as users hold them, and the ids that texts get.

Those of the official layout that are tested here are made by `chameleon_tokenizer`, without merges but a few. Tests on the
files beside the golden data skip where these are missing.
"""

import csv
import gzip
import json
import pickle
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from lumos_hf import LumosConfig
from lumos_hf.conversion.text_tokenizer import check_text_tokenizer, load_text_tokenizer
from lumos_hf.token_layout import prompt_text

from ..conftest import REPOSITORY
from .official_release import as_official_script_writes, chameleon_tokenizer, mended, write_json


pytestmark = pytest.mark.slow

OFFICIAL = REPOSITORY.parent / "shared" / "official"
NUM_CODES = 64_000
CONFIG = LumosConfig()
AS_PUBLISHED = "text_tokenizer_as_published_script_writes.json.gz"
CHAMELEON_SHAPED = "chameleon_shaped_tokenizer.json.gz"


def official_file(name):
    path = OFFICIAL / name
    if not path.is_file():
        pytest.skip(f"there is no {name} beside the golden data")
    return path


@pytest.fixture(scope="module")
def chameleon():
    return chameleon_tokenizer()


@pytest.fixture(scope="module")
def official(chameleon):
    return as_official_script_writes(chameleon, NUM_CODES)


@pytest.fixture(scope="module")
def official_path(official, tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "text_tokenizer.json"
    write_json(path, official)
    return path


@pytest.fixture(scope="module")
def mended_tokenizer(official):
    """As a user makes it loadable, with the visual codes."""
    return Tokenizer.from_str(json.dumps(mended(official)))


@pytest.fixture(scope="module")
def converted(official_path, tmp_path_factory):
    """As `AutoTokenizer` has it from a checkpoint."""
    directory = tmp_path_factory.mktemp("tokenizer")
    load_text_tokenizer(official_path).tokenizer.save_pretrained(directory)
    return AutoTokenizer.from_pretrained(directory)


def unpack(name, directory):
    path = directory / name.removesuffix(".gz")
    path.write_bytes(gzip.decompress(official_file(name).read_bytes()))
    return path


# What is read


def test_the_file_of_the_official_script(official_path):
    with pytest.raises(Exception, match="version '2.0'"):
        Tokenizer.from_file(str(official_path))
    tokenizer, code_ids, path = load_text_tokenizer(official_path)
    assert code_ids == range(65_536, 65_536 + NUM_CODES) and path == official_path
    assert max(tokenizer.get_vocab().values()) < 65_536
    check_text_tokenizer(tokenizer, CONFIG, path)


def test_the_file_of_lumina(chameleon, tmp_path):
    write_json(tmp_path / "tokenizer.json", chameleon)
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        tokenizer, code_ids, _ = load_text_tokenizer(source)
        assert code_ids is None
        check_text_tokenizer(tokenizer, CONFIG, source)


def test_both_files(chameleon, official_path, tmp_path):
    """Texts are encoded by the one, the ids of visual codes looked up in the other, in one directory or not."""
    merged = {**chameleon, "model": {**chameleon["model"], "merges": []}}
    write_json(tmp_path / "tokenizer.json", merged)
    (tmp_path / "both").mkdir()
    for name, source in (("tokenizer.json", tmp_path / "tokenizer.json"), ("text_tokenizer.json", official_path)):
        (tmp_path / "both" / name).symlink_to(source)
    for read in (
        load_text_tokenizer(tmp_path / "both"),
        load_text_tokenizer(tmp_path, official_path),
        load_text_tokenizer(tmp_path / "tokenizer.json", official_path.parent),
    ):
        assert read.code_ids == range(65_536, 65_536 + NUM_CODES)
        # Without merges there are as many tokens as bytes.
        assert len(read.tokenizer("the", add_special_tokens=False).input_ids) == 3
    assert len(load_text_tokenizer(official_path).tokenizer("the", add_special_tokens=False).input_ids) == 2


@pytest.mark.parametrize("name", [AS_PUBLISHED, CHAMELEON_SHAPED])
def test_the_files_of_the_release(name, tmp_path):
    tokenizer, code_ids, path = load_text_tokenizer(unpack(name, tmp_path))
    assert code_ids == (range(65_536, 129_536) if name == AS_PUBLISHED else None)
    check_text_tokenizer(tokenizer, CONFIG, path)


# The ids of texts

PIECES = st.sampled_from(
    [
        *("<s>", "</s>", "<pad>", "<unk>", "<eoss>", "<racm3:break>", "<reserved08706>", "<reserved09000>"),
        *("<reserved16379>", "<sentinel:3>", "<sentinel:999>", "IMGIMGAZ", "IMGIMGBJZ", "VIDVIDZ", "VIDVIDABCDEFZ"),
        *(
            "VIDVIDJJJJJZ",
            "VIDVIDAAZ",
            "VIDVID",
            " ",
            "  ",
            "    ",
            "\n",
            "\t",
            "\r\n",
            "the",
            "The cat",
            "n't",
            "ö",
            "日",
        ),
        *("e\u0301", "\u200b", "🎈", "1234567890", "3.14", "--", "...", "\x00", "\u2028", "ﬁ", "İ"),
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=12).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
@example(text=prompt_text("A cat runs over the grass.", height=384, width=672, duration=2, fps=12))
@example(text="x VIDVIDJJJJJZ y")
def test_every_text_has_the_ids_of_the_mended_file(converted, mended_tokenizer, text):
    expected = mended_tokenizer.encode(text, add_special_tokens=False).ids
    # Names of visual codes are text here, and visual codes there.
    if max(expected, default=0) < 65_536:
        assert converted(text, add_special_tokens=False).input_ids == expected
        assert converted.decode(expected) == mended_tokenizer.decode(expected, skip_special_tokens=False)


def test_names_of_visual_codes_are_text(converted, mended_tokenizer):
    assert mended_tokenizer.encode("VIDVIDBHZ").ids == [65_536 + 17]
    ids = converted("VIDVIDBHZ", add_special_tokens=False).input_ids
    assert max(ids) < 65_536 and converted.decode(ids) == "VIDVIDBHZ"


def test_official_prompts_have_their_recorded_ids(tmp_path):
    """
    Captions of the official items, wherever the published record tells what an id stands for.

    Most merges are unknown. The tokenizer here has the known tokens at their ids, and takes a word that is one of them whole
    (`ignore_merges`). For the few words of several known tokens, merges are made up that build each of these letter by
    letter over tokens of ids that nothing else has, beginnings of words first. All the rest is as for any user: the text of the prompt, where words end,
    numbers, marks, bytes, special tokens.
    """
    strings = {
        int(key): text for key, text in json.loads(official_file("recovered_text_ids.json").read_text()).items()
    }
    content = json.loads(unpack(CHAMELEON_SHAPED, tmp_path).read_text(encoding="utf-8"))
    split = Tokenizer.from_str(json.dumps(content)).pre_tokenizer.pre_tokenize_str
    items = list(official_items())
    words = {
        word: ids
        for text, recorded in items
        for word, ids in shared_out(recorded, [word for word, _ in split(text)], strings)
        if all(token_id in strings for token_id in ids)
    }
    (tmp_path / "text").mkdir()
    write_json(tmp_path / "text" / "tokenizer.json", with_known_tokens(content, strings, words))
    tokenizer = load_text_tokenizer(tmp_path / "text").tokenizer
    check_text_tokenizer(tokenizer, CONFIG, tmp_path)

    assert len(items) >= 8 and len(words) > 400
    shares = []
    for text, recorded in items:
        found = tokenizer(text, add_special_tokens=False).input_ids
        shared = shared_out(recorded, [word for word, _ in split(text)], strings)
        known = [(word, ids) for word, ids in shared if all(token_id in strings for token_id in ids)]
        # Word by word, since words that are not decided may have another number of tokens.
        ids_of = {word: [token.id for token in tokenizer.backend_tokenizer.model.tokenize(word)] for word, _ in shared}
        assert [token_id for word, _ in shared for token_id in ids_of[word]] == found
        assert not [(word, ids_of[word], ids) for word, ids in known if ids_of[word] != ids]
        shares.append(len(known) / len(shared))
    assert min(shares) > 0.85


def official_items():
    for kind in ("image", "video"):
        with official_file(f"pretokenized/csv_files/test_{kind}.csv").open(encoding="utf-8", newline="") as file:
            captions = [row["text"] for row in csv.DictReader(file)]
        for path in sorted((OFFICIAL / "pretokenized" / f"test_{kind}" / "1-in-1" / "files").glob("*.pkl")):
            item = pickle.loads(path.read_bytes())
            yield text_and_ids(item["token"], captions[item["id"]])


def with_known_tokens(content, strings, words):
    vocabulary, merges = content["model"]["vocab"], {}
    names = {token_id: name for token_id, name in strings.items() if token_id >= 16_640}
    vocabulary.update({name: token_id for token_id, name in names.items()})
    free_ids = (token_id for token_id in range(65_535, 16_640, -1) if token_id not in names)
    in_parts = {strings[token_id] for word, ids in words.items() if len(ids) > 1 for token_id in ids}
    for name in sorted(in_parts, key=lambda name: (not name.startswith("Ġ"), -len(name))):
        for end in range(2, len(name) + 1):
            merges[name[: end - 1], name[end - 1]] = True
            if name[:end] not in vocabulary:
                vocabulary[name[:end]] = next(free_ids)
    content["model"].update(merges=[list(pair) for pair in merges], ignore_merges=True)
    return content


def text_and_ids(ids, caption):
    """What the text of an official item says, and its ids, with numbers instead of the two placeholders."""
    frame = ids.index(CONFIG.image_start_token_id)
    header = ids.index(CONFIG.video_start_token_id)
    duration, fps = (token_id - 8804 for token_id in ids[header + 1 : header + 3])
    height, width = (32 * (token_id - 8804) for token_id in ids[frame + 1 : frame + 3])
    text_ids = ids[1 : header - 1]
    for placeholder, number in ((65_539, duration * fps), (65_540, fps)):
        index = text_ids.index(placeholder)
        text_ids[index : index + 1] = [16_399 + int(digit) for digit in str(number)]
    return prompt_text(caption, height=height, width=width, duration=duration, fps=fps), text_ids


def shared_out(ids, words, strings):
    """The ids of each word: those that are known spell it, others stand for any letters."""
    # Numbers of ids that the words so far can have, each with that before the last word.
    reached = [{0: None}]
    for word in words:
        following = {}
        for start in reached[-1]:
            for end in range(start + 1, min(start + len(word), len(ids)) + 1):
                pattern = "".join(re.escape(strings[i]) if i in strings else ".+" for i in ids[start:end])
                if re.fullmatch(pattern, word, flags=re.DOTALL):
                    following.setdefault(end, start)
        assert following, word
        reached.append(following)
    ends = [len(ids)]
    for following in reversed(reached[1:]):
        ends.append(following[ends[-1]])
    slices = [ids[start:end] for end, start in zip(ends, ends[1:])]
    return list(zip(words, reversed(slices), strict=True))


# What is refused, each with the file


def bytes_elsewhere(content):
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    return (
        "must have the 256 bytes at the ids 16384 to 16639, got a 16449 instead of 16448, b 16448 instead of 16449 in"
    )


def no_bytes(content):
    vocabulary = content["model"]["vocab"]
    for byte in list(pre_tokenizers.ByteLevel.alphabet()):
        token_id = vocabulary.pop(byte)
        vocabulary[f"<gone{token_id}>"] = token_id
    content["model"]["merges"] = []
    return "must have the 256 bytes at the ids 16384 to 16639, got ! nothing instead of 16384, .* and 251 more in"


def tokens_among_the_visual_codes(content):
    content["model"]["vocab"]["zebra"] = 70_000
    return "must have its tokens before the visual codes, which begin at 65536, got zebra at 70000 in"


def texts_instead_of_ids(content):
    content["model"]["vocab"]["a"] = "16448"
    return "must be a tokenizers file, .* the ids of its tokens must be integers"


def no_vocabulary(content):
    del content["model"]["vocab"]
    return "must be a tokenizers file"


@pytest.mark.parametrize(
    "change", [bytes_elsewhere, no_bytes, tokens_among_the_visual_codes, texts_instead_of_ids, no_vocabulary]
)
def test_other_tokenizers_are_refused(chameleon, tmp_path, change):
    content = json.loads(json.dumps(chameleon))
    message = change(content)
    write_json(tmp_path / "tokenizer.json", content)
    with pytest.raises(ValueError, match=message) as error:
        tokenizer, _, path = load_text_tokenizer(tmp_path)
        check_text_tokenizer(tokenizer, CONFIG, path)
    assert str(tmp_path / "tokenizer.json") in str(error.value) and "\n" not in str(error.value)


def test_visual_codes_that_do_not_follow(chameleon, tmp_path):
    content = as_official_script_writes(chameleon, 30)
    nested = content["added_tokens"][-1]
    nested[17]["id"], nested[20]["id"] = nested[20]["id"], nested[17]["id"]
    write_json(tmp_path / "text_tokenizer.json", content)
    message = r"code 17 \(VIDVIDBH\?\) has id 65556 instead of id 65553 in '.*text_tokenizer.json'"
    with pytest.raises(ValueError, match=message):
        load_text_tokenizer(tmp_path)


def test_names_must_be_where_they_are_looked_for(chameleon, tmp_path):
    write_json(tmp_path / "tokenizer.json", chameleon)
    with pytest.raises(ValueError, match="must be in a file text_tokenizer.json, got '"):
        load_text_tokenizer(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="tokenizer.json' must name the visual codes, got no entry VIDVID"):
        load_text_tokenizer(tmp_path, tmp_path / "tokenizer.json")
