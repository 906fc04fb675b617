"""What the store wrote survives kill -9; what it did not finish leaves no trace."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meshd.daemon.blobs import Blobs
from meshd.daemon.store import Store
from meshd.daemon.tokens import Tokens
from meshd.errors import ConflictError, InvalidError, MisuseError, NotFoundError, UnavailableError


def encode(key: str, value: Any) -> bytes:
    return json.dumps(value).encode()


def decode(key: str, raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        raise InvalidError("no JSON") from None


def store_in(folder: Path) -> Store:
    return Store(folder, encode, decode)


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def test_kept_values_come_back_and_none_deletes(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.keep([("b", 1), ("a", {"x": [1]}), ("c", 3)])
    store.keep([("b", None), ("c", 4)])
    store.close()
    again = store_in(tmp_path)
    assert again.kept() == {"a": {"x": [1]}, "c": 4}
    again.close()


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.keep([("a", 1)])
    with pytest.raises(TypeError):
        store.keep([("a", 2), ("b", object())])
    store.execute("CREATE TRIGGER full BEFORE INSERT ON kept WHEN NEW.key = 'z' BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(UnavailableError, match="full"):
        store.keep([("a", 3), ("z", 1)])
    assert store.kept() == {"a": 1}
    store.close()


def test_a_value_of_another_version_is_forgotten_and_the_rest_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_in(tmp_path)
    store.keep([("a", 1), ("b", 2)])
    store.execute("UPDATE kept SET value = x'ff' WHERE key = 'a'")
    assert store.kept() == {"b": 2}
    assert "forgot a" in caplog.text
    store.close()


def test_two_daemons_cannot_share_a_folder(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(UnavailableError, match="another meshd"):
        store_in(tmp_path)
    store.close()
    store_in(tmp_path).close()


def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.execute("PRAGMA user_version=99")
    store.close()
    with pytest.raises(InvalidError, match="newer"):
        store_in(tmp_path)


WRITER = """
import sys
from pathlib import Path
from tests.daemon.test_store import Blobs, digest, store_in
folder = Path(sys.argv[1])
store, blobs = store_in(folder), Blobs(folder / "blobs")
start = store.kept().get("start", 0) + 1
store.keep([("start", start)])
print(start, flush=True)
for n in range(100_000):
    store.keep([("n", n), ("twice", 2 * n)])
    raw = str(n).encode() * 1000
    blobs.write(digest(raw), [raw[:100], raw[100:]])
    print(n, flush=True)
"""


def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    for start in (1, 2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == f"{start}\n"
            for _ in range(20):
                said = child.stdout.readline()
            os.kill(child.pid, signal.SIGKILL)
            said = (child.stdout.read().splitlines() or [said])[-1]
        store, blobs = store_in(tmp_path), Blobs(tmp_path / "blobs")
        kept = store.kept()
        assert kept["n"] >= int(said)
        assert kept["twice"] == 2 * kept["n"]
        raw = said.strip().encode() * 1000
        assert bytes(blobs.read(digest(raw))) == raw
        assert all(bytes(blobs.read(name)) for name in blobs)
        store.close()


def test_a_blob_that_is_not_what_its_name_says_is_not_kept(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with pytest.raises(InvalidError, match="hash to"):
        blobs.write(digest(b"a"), [b"b"])
    with pytest.raises(InvalidError, match="more than 3"):
        Blobs(tmp_path, bytes_max=3).write(digest(b"abcd"), [b"ab", b"cd"])
    assert list(blobs) == []
    assert list((tmp_path / "coming").iterdir()) == []


def test_a_damaged_blob_counts_as_missing(tmp_path: Path) -> None:
    blobs, name = Blobs(tmp_path), digest(b"weights")
    blobs.write(name, [b"weights"])
    assert name in blobs
    blobs.path(name).write_bytes(b"wEights")
    with pytest.raises(NotFoundError, match="damaged"):
        blobs.read(name)
    assert name not in blobs


def test_an_empty_blob_is_a_blob(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    blobs.write(digest(b""), [])
    assert bytes(blobs.read(digest(b""))) == b""


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "a" * 63, ""])
def test_no_path_is_made_from_a_name_that_is_no_digest(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidError, match="SHA-256"):
        Blobs(tmp_path).read(name)


def test_a_token_is_known_until_it_is_removed(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    tokens = Tokens(store)
    secret = tokens.create("laptop", "client")
    assert tokens.role(secret) == "client"
    assert tokens.role(secret + "x") is None
    assert [(t.name, t.role) for t in tokens.list()] == [("laptop", "client")]
    with pytest.raises(ConflictError):
        tokens.create("laptop", "client")
    tokens.remove("laptop")
    assert tokens.role(secret) is None
    with pytest.raises(NotFoundError):
        tokens.remove("laptop")
    store.close()
    assert not any(secret.encode() in p.read_bytes() for p in tmp_path.iterdir() if p.is_file())


def test_a_token_needs_a_plain_name_and_a_known_role(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(MisuseError, match="token name"):
        Tokens(store).create("a b", "client")
    with pytest.raises(MisuseError, match="one of client"):
        Tokens(store).create("a", "root")
    store.close()
