"""The program: what the help says, where usage errors point, what a command loads."""

from __future__ import annotations

import resource
import shlex
import subprocess
import sys

import pytest
from tests.cli.commands import run

from regard.__main__ import main
from regard.cli import BENCHES, VERBS
from regard.cli.app import build_app
from regard.cli.parameters import protect_hyphens
from regard.models import FAMILIES
from regard.tasks import TASKS

ALL = VERBS | {f"bench {name}": verb for name, verb in BENCHES.items()}
_SCRIPT = """
import gc, sys
from regard.__main__ import main

sys.argv = ["regard", *sys.argv[1:]]
assert main() == 0
assert gc.isenabled() and gc.get_freeze_count()
print(*(name for name in sys.modules if name.startswith("regard")), file=sys.stderr)
"""


@pytest.mark.slow
def test_help_is_quick_and_loads_no_torch():
    script = "import sys; from regard.__main__ import main; main(['--help']); "
    script += "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, because other processes lengthen the time on the clock; about 0.06 s.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.25


@pytest.mark.slow
def test_the_help_of_no_verb_loads_torch():
    words = [[*name.split(), "--help"] for name in ALL]
    script = "import sys; from regard.__main__ import main\n"
    script += f"for words in {words}: main(words)\n"
    script += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_the_help_of_every_verb_ends_with_its_examples(capsys, name):
    assert main([*name.split(), "--help"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.rstrip("\n").split("\n")]
    examples = ALL[name].examples
    assert tuple(lines[-len(examples) :]) == examples


@pytest.mark.parametrize("command", [text for verb in ALL.values() for text in verb.examples])
def test_every_example_is_a_command_of_regard(command):
    words = shlex.split(command.rpartition("| ")[2].partition(" < ")[0])
    assert words[0] == "regard"
    build_app().parse_args(protect_hyphens(words[1:]), exit_on_error=False, print_error=False)


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        (["train", "pairs.tsv", "--zz"], "train"),
        (["train", "pairs.tsv", "--minutes", "x"], "train"),
        (["translate"], "translate"),
        (["info", "ende", "--diagram", "dot"], "info"),
        (["bench", "attention", "--zz"], "bench attention"),
        (["bench", "attenion"], "bench"),
    ],
    ids=" ".join,
)
def test_usage_errors_point_to_the_help_of_the_verb(capsys, words, verb):
    assert main(words) == 2
    assert capsys.readouterr().err.endswith(f"  See: regard {verb} --help\n")


def test_an_unknown_verb_is_a_usage_error_with_a_suggestion(capsys):
    assert main(["trian"]) == 2
    err = capsys.readouterr().err
    assert 'Did you mean "train"' in err
    assert err.endswith("  See: regard --help\n")


def _is_option(word):
    return word.startswith("--")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["train", "--outptu"], "--output"),
        (["check", "--jsom"], "--json"),
        (["translate", "ende", "--jsn"], "--json"),
        (["translate", "--bem", "4", "x"], "--beam"),
        (["generate", "tales", "Once", "--sed", "1"], "--seed"),
    ],
    ids=" ".join,
)
def test_a_misspelt_option_is_refused_wherever_it_is(capsys, words, meant):
    assert main(words) == 2
    assert capsys.readouterr().err == (
        f"regard: Unknown option: {next(filter(_is_option, words))}. Did you mean {meant}?  "
        f"See: regard {words[0]} --help\n"
    )


@pytest.fixture(scope="module")
def loaded(trained):
    """The modules of regard after the translation of a sentence."""
    command = [sys.executable, "-c", _SCRIPT, "translate", str(trained), "1 red cat"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr.split()


@pytest.mark.slow
def test_translating_imports_one_task_and_one_family(loaded):
    packages = {name.split(".")[2] for name in loaded if name.startswith("regard.tasks.")}
    assert packages == {"opening", "published_task", "sequence_to_sequence", "translation"}
    families = {name.split(".")[2] for name in loaded if name.startswith("regard.models.")}
    assert families & set(FAMILIES) == {"transformer"}
    assert len(TASKS) == 10


@pytest.mark.slow
def test_translating_imports_nothing_of_training_or_of_the_kernels_of_attention(loaded):
    unused = {
        "regard.training.loop",
        "regard.optim.muon",
        "regard.attention.attend",
        "regard.metrics.translation",
        "regard.plots.style",
        "regard.data.readers.arrow_tables",
        "regard.data.readers.tables",
        "regard.hub.hugging_face.published_folder",
        "regard.setup.presets",
    }
    assert not unused & set(loaded)
    assert len(loaded) < 150


@pytest.mark.slow
def test_an_unknown_option_is_a_usage_error_with_a_suggestion(capsys, trained):
    code, _, err = run(capsys, "translate", trained, "x", "--jsom")
    assert code == 2
    assert "Unknown option: --jsom. Did you mean --json?" in err


_INTERRUPTED = """
import sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from regard.__main__ import main

sys.exit(main(["check", "pairs.tsv"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["regard.cli", "regard.cli.app", "cyclopts", "regard.cli.check"])
def test_an_interrupt_while_modules_are_loaded_is_no_traceback(module):
    words = [sys.executable, "-c", _INTERRUPTED, module]
    process = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (130, "regard: interrupted\n")
