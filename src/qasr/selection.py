"""Which engine hears a model: the catalogue's routes, what is installed, and the operator's word, put together.

``engines.default`` is ``auto``: of the checkpoints that may serve a name, the first that is installed and whose engine
can run; at last the embedded engine. Or it is the name of an engine or of a checkpoint, which then serves all names.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final, Self

from qasr import catalogue
from qasr.catalogue import checkpoints
from qasr.catalogue.checkpoints import Checkpoint
from qasr.catalogue.store import Store
from qasr.config import Settings
from qasr.domain.errors import InvalidParameter, UnknownModel
from qasr.engines import registry
from qasr.engines.registry import AUTO, EMBEDDED
from qasr.engines.room import DEFAULT, Choice

BESIDE: Final = "qwen3_aligner"
"""What helps other engines and hears nothing by itself."""


class Selection:
    """The choices of the engine room.

    Args:
        default: ``auto``, or the name of an engine or of a checkpoint.
        given: settings of each engine, by its name.
        store: what is installed.
    """

    def __init__(self, default: str, given: Mapping[str, Mapping[str, str]], store: Store) -> None:
        self._default, self._given, self._store = default, given, store
        self._names, self._known = catalogue.built_in(), checkpoints.built_in()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say."""
        return cls(settings.engines.default, engine_settings(settings), Store(settings.models_dir))

    def __call__(self, model: str) -> Sequence[Choice]:
        """What may serve the public name *model*, best first."""
        if self._default == AUTO:
            found = [choice for one in self._known.serving(self._resolved(model)) if (choice := self._choice(one))]
            return [*found, self._plain(EMBEDDED)]
        if self._default in registry.installed_names():
            given = self._given.get(self._default, {})
            if self._default not in self._known.needs or given.get("folder"):
                return [self._plain(self._default)]
            own = [one for one in self._known.serving(DEFAULT) if one.engine == self._default]
            return [choice for one in own if (choice := self._choice(one))] or [self._plain(self._default)]
        try:
            choice = self._choice(self._known.find(self._default))
        except UnknownModel:
            return [self._plain(self._default)]  # whose engine says that there is no such engine
        return [choice] if choice else []

    def beside(self, name: str) -> Mapping[str, str]:
        """What the factory of an aligner or a tagger gets: the operator's folder, else an installed checkpoint."""
        given = self._given.get(name, {})
        if given.get("folder"):
            return given
        own = [one for one in self._known.all if one.engine == name and _has_packages(name)]
        records = [record for one in own if (record := self._store.find(one.name)) is not None]
        return {**given, "folder": str(self._store.folder(records[0]))} if records else given

    def check(self) -> None:
        """Refuse a misspelled or missing default at the start, and not at each request.

        Raises:
            InvalidParameter: with what to do.
        """
        names = registry.installed_names()
        if self._default in (AUTO, *names):
            return
        try:
            one = self._known.find(self._default)
        except UnknownModel:
            raise InvalidParameter(
                f"engines.default: no engine {self._default!r} is installed; there are {AUTO}, "
                f"{', '.join(sorted(names))}, and the names of checkpoints (qasr models list)"
            ) from None
        if self._choice(one) is None:
            raise InvalidParameter(f"engines.default: {one.name} is {self.state(one)}; {self.remedy(one)}")

    def state(self, checkpoint: Checkpoint) -> str:
        """``installed``, or what is missing."""
        if self._store.find(checkpoint.name) is None:
            return "not installed"
        can_run = _has_packages(BESIDE) if checkpoint.engine == BESIDE else self._can_run(checkpoint)
        return "installed" if can_run else "without its engine"

    def remedy(self, checkpoint: Checkpoint) -> str:
        """The commands that make *checkpoint* usable."""
        needs = self._known.needs[checkpoint.engine]
        commands = [] if needs.are_met else [needs.remedy]
        if self._store.find(checkpoint.name) is None:
            commands.append(checkpoint.install)
        return " && ".join(commands)

    def _resolved(self, model: str) -> str:
        try:
            return self._names.resolve(model).name
        except UnknownModel:
            return DEFAULT

    def _choice(self, checkpoint: Checkpoint) -> Choice | None:
        """None where it cannot be used."""
        record = self._store.find(checkpoint.name)
        if record is None or not self._can_run(checkpoint):
            return None
        return Choice(
            engine=checkpoint.engine,
            settings={**self._given.get(checkpoint.engine, {}), "folder": str(self._store.folder(record))},
            checkpoint=checkpoint.name,
            n_bytes=record.n_bytes,
        )

    def _plain(self, engine: str) -> Choice:
        return Choice(engine=engine, settings=self._given.get(engine, {}))

    def _can_run(self, checkpoint: Checkpoint) -> bool:
        return _has_packages(checkpoint.engine) and checkpoint.engine in registry.installed_names()


def engine_settings(settings: Settings) -> Mapping[str, Mapping[str, str]]:
    """What each engine's factory gets: its section of the settings, as text; an engine chooses what is not set."""
    return {
        name: {key: _text(value) for key, value in section.model_dump(exclude_defaults=True).items()}
        for name, section in (
            ("moonshine", settings.moonshine),
            ("qwen3_asr", settings.qwen3_asr),
            ("qwen3_aligner", settings.qwen3_aligner),
            ("whisper", settings.whisper),
            ("sherpa", settings.sherpa),
            ("tagger", settings.tagger),
            ("scripted", settings.scripted),
            ("upstream", settings.upstream),
        )
    }


def _text(value: object) -> str:
    """A setting as an operator would write it in an environment variable."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@cache
def _has_packages(engine: str) -> bool:
    return checkpoints.built_in().needs[engine].are_met
