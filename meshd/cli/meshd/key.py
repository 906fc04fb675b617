"""`meshd key new|show|join`: the mesh key file. Who has it is a member."""

import os
import sys
from pathlib import Path

import click

from meshd.errors import InvalidError, MisuseError

state_option = click.option(
    "--state-dir", type=click.Path(file_okay=False, path_type=Path), help="State folder. Default: as `meshd run`."
)
file_option = click.option(
    "--mesh-key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file. Default: mesh.key in the state folder.",
)


@click.group()
def command() -> None:
    """Make, show or take over the mesh key.

    Devices with one mesh key are one mesh. Make it on the first, carry it to the others by a safe way (scp, a stick), and
    restart the daemon there.
    """


@command.command()
@state_option
@file_option
@click.option("--replace", is_flag=True, help="Put it in place of a key that is there: this node leaves its mesh.")
def new(state_dir: Path | None, mesh_key: Path | None, replace: bool) -> None:
    """Make a fresh mesh key: a new mesh, of this node alone until others join."""
    from meshd.net.key import MeshKey

    path = _place(state_dir, mesh_key)
    key = MeshKey.new()
    key.save(path, replace=replace)
    _give_to_owner(path)
    click.echo(f"mesh {key.mesh}")
    click.echo(f"wrote {path}; restart meshd here, and join others with: meshd key join FILE", err=True)


@command.command()
@state_option
@file_option
@click.option("--secret", is_flag=True, help="Print the whole key, secrets too, to carry it to another device.")
def show(state_dir: Path | None, mesh_key: Path | None, secret: bool) -> None:
    """Print the mesh's id, which is public; with --secret the key itself."""
    from meshd.net.key import MeshKey

    key = MeshKey.load(_place(state_dir, mesh_key))
    if secret:
        click.echo(key.text(), nl=False)
    else:
        click.echo(f"mesh {key.mesh}")


@command.command()
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False))
@state_option
@file_option
@click.option("--replace", is_flag=True, help="Put it in place of a key that is there: this node leaves its mesh.")
def join(file: str, state_dir: Path | None, mesh_key: Path | None, replace: bool) -> None:
    """Take over the mesh key in FILE (`-`: from stdin, as printed by `meshd key show --secret`)."""
    from meshd.net.key import MeshKey

    if file == "-":
        key = MeshKey.parse(sys.stdin.read(4096), "stdin")
    elif not Path(file).exists():
        raise MisuseError(f"{file}: no such file; copy it from a node of the mesh, where `meshd key new` wrote it")
    else:
        try:
            key = MeshKey.parse(Path(file).read_bytes()[:4096].decode(errors="replace"), file)
        except OSError as error:
            raise InvalidError(f"{file}: {error.strerror}") from None
    path = _place(state_dir, mesh_key)
    key.save(path, replace=replace)
    _give_to_owner(path)
    click.echo(f"mesh {key.mesh}")
    click.echo(f"wrote {path}; restart meshd here", err=True)


def _place(state_dir: Path | None, mesh_key: Path | None) -> Path:
    from meshd.daemon.settings import load

    flags = {"state_dir": str(state_dir) if state_dir else None, "mesh_key": str(mesh_key) if mesh_key else None}
    path = load(flags).mesh_key
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
    return path


def _give_to_owner(path: Path) -> None:
    # Root makes keys for the service's user: the file goes to whoever owns the folder.
    folder = path.parent.stat()
    if os.geteuid() == 0 and folder.st_uid != 0:
        os.chown(path, folder.st_uid, folder.st_gid)
