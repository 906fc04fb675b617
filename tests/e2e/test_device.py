"""The README's device section, run word for word on a machine whose system folders are a throw-away overlay."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.system import needs_root

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = """
set -eu
mount -t tmpfs none "$1"
for folder in etc usr opt var; do
    mkdir "$1/$folder.upper" "$1/$folder.work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$1/$folder.upper,workdir=$1/$folder.work" "/$folder"
done
cd "$2"
"""
CHECKS = """
systemd-analyze verify --man=no /etc/systemd/system/meshd.service
test "$(stat -c '%U %a' /var/lib/meshd)" = "meshd 700"
test "$(stat -c '%U %a' /var/lib/meshd/mesh.key)" = "meshd 600"
meshd --version && meshctl --version
echo device section done
"""


@needs_root
@pytest.mark.timeout(280)
def test_the_device_section_of_the_readme_works_as_printed(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"<!-- device -->\n```sh\n(.*?)```", readme, re.S)
    assert len(commands) == 2
    # pip builds in the source folder; a copy of what git has keeps ours clean.
    source, scratch = tmp_path / "source", tmp_path / "overlay"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    scratch.mkdir()
    script = OVERLAY + "".join(commands) + CHECKS
    words = ["unshare", "--mount", "bash", "-c", script, "device", str(scratch), str(source)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=270)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("device section done\n")
    assert not Path("/etc/systemd/system/meshd.service").exists(), "the overlay leaked"
