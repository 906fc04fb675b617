"""What a daemon has before its loop starts: its folder, identity, keys, models. All blocking work of the start is here."""

import logging
from dataclasses import dataclass

from meshd.daemon.library import Library
from meshd.daemon.settings import Settings
from meshd.daemon.signing import Signer
from meshd.daemon.store import Store
from meshd.daemon.tokens import Tokens
from meshd.errors import NotFoundError
from meshd.net.identity import Identity
from meshd.net.key import MeshKey
from meshd.wire.codec import decode_value, encode_value
from meshd.wire.seal import Keyring

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything read from disk."""

    settings: Settings
    store: Store
    identity: Identity
    key: MeshKey | None
    """None: never given a mesh key, a mesh of one."""
    signer: Signer
    library: Library
    tokens: Tokens

    @property
    def mesh_id(self) -> str:
        """In hex; empty for a mesh of one."""
        return self.key.mesh if self.key else ""

    @property
    def keyring(self) -> Keyring:
        """The mesh's, or a fresh one nobody else has."""
        return (self.key or MeshKey.new()).keyring

    @property
    def host(self) -> str:
        """The address to bind: loopback without a mesh key, whatever the settings say; empty for all interfaces."""
        if self.key is None and not self.settings.loopback:
            return "127.0.0.1"
        return self.settings.bind


def prepare(settings: Settings) -> Prepared:
    """Lock the state folder and read everything in it, making what a first start needs.

    Raises
    ------
    MeshdError
        Naming the file and what to do; nothing is left locked.
    """
    store = Store(settings.state_dir, encode_value, decode_value)
    try:
        identity = Identity.load_or_create(settings.state_dir)
        try:
            key = MeshKey.load(settings.mesh_key)
        except NotFoundError:
            key = None
            log.warning("no mesh key at %s: a mesh of one, on loopback only; see `meshd key --help`", settings.mesh_key)
        signer, library = Signer(settings.state_dir), Library(settings.state_dir)
    except BaseException:
        store.close()
        raise
    return Prepared(settings, store, identity, key, signer, library, Tokens(store))
