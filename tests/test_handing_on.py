"""What others get it by: containers, the lock without CUDA, the citation, the changelog.

No container is built here. Run as a program this file writes the lock without CUDA anew.
"""

import json
import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORDS = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "CMD", "LABEL", "ENTRYPOINT", "USER", "VOLUME", "EXPOSE"}
SECTIONS = {"files", "post", "environment", "runscript", "help", "labels", "test", "arguments", "setup"}
CUDA = re.compile(r"(?:nvidia-|cuda-|triton\b)")
HEAD = """# requirements.txt without what CUDA needs, for machines that have none. To take it:
#    RADSTACK_LOCK=requirements-cpu.txt bash run_all.sh
# After a change of requirements.txt: python tests/test_handing_on.py
--extra-index-url https://download.pytorch.org/whl/cpu
"""


def without_cuda() -> str:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    return HEAD + "".join(f"{line}\n" for line in lines if not CUDA.match(line))


def instructions(text: str) -> list[tuple[str, str]]:
    """Instruction and arguments of each line of a Dockerfile, continued lines joined."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def sections(text: str) -> dict[str, str]:
    """Section -> its body, of an Apptainer definition; the head under ""."""
    parts = re.split(r"(?m)^%(\w+).*$", text)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2]))}


def is_shell(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_the_lock_without_cuda_is_the_lock_without_cuda():
    text = (ROOT / "requirements-cpu.txt").read_text()
    assert text == without_cuda()
    assert re.search(r"(?m)^torch==", text) and not re.search(r"(?m)^(nvidia|triton)", text)
    assert len(text.splitlines()) > 80


def test_setup_takes_the_lock_that_is_named_and_lists_no_other():
    text = (ROOT / "setup.sh").read_text()
    is_shell(text)
    assert "${RADSTACK_LOCK:-" in text and text.count("requirements.txt") == 1


def test_the_tools_lock_holds_the_versions_of_what_runs_and_what_runs_holds_no_tools():
    work, tools = (dict(line.split("==", 1) for line in (ROOT / f"requirements{kind}.txt").read_text().splitlines()
                        if not line.startswith("#")) for kind in ("", "-dev"))
    direct = re.findall(r"(?m)^[a-z-]+", (ROOT / "requirements-dev.in").read_text().split("-c requirements.txt\n")[1])
    assert {"ruff", "mypy", "pytest", "pytest-xdist", "nbmake", "ipykernel", "playwright"} == set(direct) <= set(tools)
    assert not set(direct) & set(work)
    assert all(work.get(name, version) == version for name, version in tools.items())


@pytest.fixture
def place(tmp_path):
    """setup.sh with locks, beside programs that only write down what they were called with."""
    shutil.copy(ROOT / "setup.sh", tmp_path)
    for lock in ("requirements.txt", "requirements-dev.txt"):
        (tmp_path / lock).write_text(f"{lock}==1\n")
    python = ("#!/bin/sh\ncase \"$*\" in '-m venv .venv') echo \"$0\" >> venvs; mkdir -p .venv/bin; "
              "cp bin/python3 .venv/bin/python;; esac\n")
    (tmp_path / "bin").mkdir()
    for name, text in (("python3", python), ("uv", "#!/bin/sh\nfor last; do :; done; echo \"$last\" >> installed\n")):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def installed(place: Path, **tools: str) -> list[str]:
    """The locks that setup.sh installs."""
    (place / "installed").write_text("")
    subprocess.run(["bash", "-euc", "source setup.sh"], cwd=place, check=True, capture_output=True,
                   env={"PATH": f"{place / 'bin'}:/usr/bin:/bin", **tools})
    return (place / "installed").read_text().split()


def test_setup_installs_each_lock_once_and_again_when_it_has_changed(place):
    assert installed(place) == ["requirements.txt"] and installed(place) == []
    assert installed(place, RADSTACK_TOOLS="1") == ["requirements-dev.txt"]
    assert installed(place, RADSTACK_TOOLS="1") == [] == installed(place)
    (place / "requirements-dev.txt").write_text("another==2\n")
    assert installed(place) == [] and installed(place, RADSTACK_TOOLS="1") == ["requirements-dev.txt"]
    (place / "requirements.txt").write_text("another==2\n")
    assert installed(place, RADSTACK_TOOLS="1") == ["requirements.txt"]
    (place / "small.txt").write_text("small==1\n")
    assert installed(place, RADSTACK_LOCK="small.txt") == ["small.txt"] and installed(place) == [], "the choice stays"
    assert installed(place, RADSTACK_LOCK="requirements.txt") == ["requirements.txt"]
    (place / ".venv" / "requirements.lock").unlink()
    assert installed(place, RADSTACK_LOCK="small.txt") == ["small.txt"]
    (place / ".venv" / "requirements.lock").write_text("requirements.txt\n")
    assert installed(place, RADSTACK_LOCK="small.txt") == installed(place) == [], "of what is installed already, too"
    (place / "small.txt").unlink()
    with pytest.raises(subprocess.CalledProcessError) as caught:
        installed(place)
    assert b"there is no lock small.txt; name one that is here: export RADSTACK_LOCK=FILE" in caught.value.stdout


def test_a_venv_is_not_made_over_that_of_another_python(place):
    installed(place)
    shutil.copytree(place / "bin", place / "other")
    (place / "requirements.txt").write_text("another==2\n")
    installed(place, PYTHON=str(place / "other" / "python3"))
    assert (place / "venvs").read_text().split() == [str(place / "bin" / "python3")]
    (place / ".venv" / "bin" / "python").unlink()
    installed(place, PYTHON=str(place / "other" / "python3"))
    assert (place / "venvs").read_text().split()[1:] == [str(place / "other" / "python3")]


def test_the_dockerfile_has_known_instructions_and_copies_what_is_there():
    found = instructions((ROOT / "Dockerfile").read_text())
    assert {word for word, _ in found} <= WORDS and next(word for word, _ in found if word != "ARG") == "FROM"
    for word, text in found:
        if word == "COPY":
            *sources, _ = text.split()
            assert all((ROOT / source).exists() for source in sources), text
        elif word == "RUN":
            is_shell(text)
        elif word in ("CMD", "ENTRYPOINT"):
            command = json.loads(text)
            assert command[0] == "bash" and (ROOT / command[1]).exists()
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".venv", ".git", "input", "weights", "cache"} <= set(ignored)  # real data never enter an image


def test_the_apptainer_definition_has_known_sections_and_runs_the_same():
    found = sections((ROOT / "radstack.def").read_text())
    assert set(found) - {""} <= SECTIONS and {"files", "post", "environment", "runscript", "test"} <= set(found)
    head = dict(line.split(": ", 1) for line in found[""].splitlines() if ": " in line and not line.startswith("#"))
    docker = dict(instructions((ROOT / "Dockerfile").read_text()))
    assert head["Bootstrap"] == "docker" and head["From"] == docker["FROM"]
    for name in ("post", "environment", "runscript", "test"):
        is_shell(found[name])
    for line in filter(None, map(str.strip, found["files"].splitlines())):
        assert (ROOT / line.split()[0]).exists(), line


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_hadolint_finds_no_error():
    command = ["hadolint", "--failure-threshold", "error", "Dockerfile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_citation_has_the_four_sources_and_the_projects_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software" and cited["license"] == "MIT"
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{cited["version"]}"' in project and isinstance(cited["date-released"], date)
    assert all({"title", "authors", "type"} <= set(one) for one in [cited, *cited["references"]][1:])
    named = [" ".join(str(author.get("family-names") or author.get("name")) for author in one["authors"])
             for one in cited["references"]]
    assert len(named) == 4 and any("Iglovikov" in one for one in named) and any("Pietz" in one for one in named)
    shelves = {word for one in cited["references"] for word in re.findall(r"`(\w+)`", one.get("notes", ""))}
    assert shelves == {"ich", "bone_age", "knee_age", "radius_ulna"}
    assert set(cited) <= {"cff-version", "message", "title", "abstract", "authors", "type", "version", "date-released",
                          "license", "keywords", "references", "repository-code", "url"}


def test_the_changelog_begins_with_what_is_not_released_and_names_this_version():
    heads = re.findall(r"(?m)^## (.+)$", (ROOT / "CHANGELOG.md").read_text())
    version = re.search(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text())[1]
    assert heads[0] == "Unreleased" and heads[1].startswith(version)


if __name__ == "__main__":
    (ROOT / "requirements-cpu.txt").write_text(without_cuda())
