"""Every setting of the server: flags over environment over file over defaults, validated once."""

import argparse
import re
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from convlens.server.access import profile

ENV_PREFIX = "CONVLENS_"
ADDRESS = re.compile(
    r"(\[(?P<ipv6>[^][/@\s]*:[^][/@\s]*)\]|(?P<host>[^][:/@\s]+)):(?P<port>[0-9]{1,5})"
)
SECRET = "triton_key"


class SettingsError(Exception):
    """The settings are wrong; the message has one line for each mistake."""


class Address(BaseModel):
    """Where to listen."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def overlaps(self, other: "Address") -> bool:
        """Whether a connection may be meant for both."""
        if self.port != other.port:
            return False
        one, two = _machine_addresses(self.host), _machine_addresses(other.host)
        return one is None or two is None or bool(one & two)


def _machine_addresses(host: str) -> set[str] | None:
    """What a host stands for; None where that is all there are, or nobody knows."""
    if host == "localhost":
        return {"127.0.0.1", "::1"}
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return None if found.is_unspecified else {str(found)}


def parse_address(text: str) -> Address:
    """Splits "host:port"; raises ValueError with what is allowed."""
    found = ADDRESS.fullmatch(text)
    if not found or int(found["port"]) > 65535:
        raise ValueError(
            'must be "host:port" with a port from 0 (any free one) to 65535, no http:// before it, '
            'and an IPv6 address in brackets, as in "[::1]:8001"'
        )
    return Address(host=found["ipv6"] or found["host"], port=int(found["port"]))


def _check_address(text: str) -> str:
    parse_address(text)
    return text


def _check_address_or_off(text: object) -> object:
    # YAML reads the word off as false.
    return "off" if text in (False, "off") else _check_address(str(text))


def _check_addresses(text: str) -> str:
    for part in text.split(","):
        if parse_address(part.strip()).port == 0:
            raise ValueError("must be host:port[,host:port…] with ports from 1 to 65535")
    return text


def _check_collector(text: str) -> str:
    scheme, separator, address = text.partition("://")
    if text and (
        scheme not in ("http", "https") or not separator or not ADDRESS.fullmatch(address)
    ):
        raise ValueError("must be http://host:port or https://host:port, or empty for no traces")
    return text


Listen = Annotated[str, AfterValidator(_check_address)]
ListenOrOff = Annotated[str, BeforeValidator(_check_address_or_off)]


class Settings(BaseSettings):
    """Settings of the server. Environment variables are named CONVLENS_ and the setting's name."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    # "host:port" in one setting: CONVLENS_PORT would be set by Kubernetes for a service "convlens".
    listen: Listen = Field(
        "127.0.0.1:50051", description="Address to serve on; port 0 is any free one."
    )
    metrics_listen: ListenOrOff = Field(
        "127.0.0.1:9464", description="Address of the Prometheus metrics, or off."
    )
    health_listen: ListenOrOff = Field(
        "off", description="Address of a second port, without TLS, for health probes; or off."
    )
    profile: Literal["development", "production"] = Field(
        "development",
        description="In production reflection is off unless it is set, and callers must be known.",
    )
    insecure: bool = Field(
        False, description="Serve in production without tokens or certificates, or without TLS."
    )
    tls_certificate: Path | None = Field(
        None, description="The server's certificate and those above it, in PEM: callers use TLS."
    )
    tls_key: Path | None = Field(None, description="The key of the certificate, in PEM.")
    tls_client_ca: Path | None = Field(
        None, description="Authorities in PEM; callers must show a certificate of theirs."
    )
    tokens: Path | None = Field(
        None, description="YAML file of those who may call, by the hashes of their tokens."
    )
    engine: Literal["embedded", "triton-local", "triton"] = Field(
        "embedded", description="Where the networks run."
    )
    networks: Path | None = Field(
        None, description="networks.yaml; left out, the bundled networks. Not for engine triton."
    )
    default_network: str = Field(
        "", description="Answers where a request names none; the first by default."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Device of the embedded engine alone: auto, cpu, cuda or cuda:N.",
    )
    triton_url: Annotated[str, AfterValidator(_check_addresses)] = Field(
        "127.0.0.1:8001",
        description="Addresses for engine triton, host:port[,host:port…]; a name that stands for "
        "several is asked again every few seconds.",
    )
    triton_ca: Path | None = Field(
        None, description="Certificates to trust, in PEM: the connection to Triton is TLS then."
    )
    triton_key: str = Field(
        "",
        repr=False,
        description="Sent as triton-grpc-protocol-convlens with calls that load and unload models.",
    )
    loading: bool = Field(
        False, description="Let callers load and unload the networks of the allow list."
    )
    stream_window: int = Field(
        64, ge=1, le=4096, description="Requests of one stream that are in flight at once."
    )
    max_message_bytes: int = Field(
        64 * 2**20, ge=2**16, le=2**31 - 1, description="Largest message, in and out, in bytes."
    )
    inference_budget: int = Field(
        4096,
        ge=1,
        description="Images under way in the inference pool of a network; what comes beyond is "
        "refused with the time to come back. Several processes share out whatever is bounded.",
    )
    analysis_budget: int = Field(
        1_000_000,
        ge=1,
        description="Passes under way in the analysis pool of a network, forward and backward.",
    )
    batch_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of both budgets that calls of the priority batch may fill.",
    )
    max_wait: float = Field(
        10.0,
        gt=0,
        le=86_400,
        description="Seconds for which a call of the inference pool may wait for others; longer "
        "than that, or beyond its deadline, it is refused at once.",
    )
    max_jobs: int = Field(
        4096, ge=1, le=1_000_000, description="Jobs under way in all pools together."
    )
    max_bytes: int = Field(
        2**30, ge=2**20, description="Bytes of requests under way in all pools together."
    )
    cache_bytes: int = Field(
        0,
        ge=0,
        description="Bytes of answers that are kept for who asks the same again; 0 keeps none.",
    )
    default_timeout: float = Field(
        60.0, gt=0, le=86_400, description="Seconds for a call whose caller set no deadline."
    )
    drain_delay: float = Field(
        0.0,
        ge=0,
        le=600,
        description="Seconds after SIGTERM in which calls are still taken, though health says "
        "NOT_SERVING: until whoever sends them has noticed.",
    )
    drain_timeout: float = Field(
        30.0, ge=0, le=3600, description="Seconds that accepted calls have to end after SIGTERM."
    )
    reflection: bool = Field(True, description="Let callers ask for the contract.")
    log_format: Literal["json", "console"] = Field("console", description="How log lines look.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important lines that are logged."
    )
    traces: Annotated[str, AfterValidator(_check_collector)] = Field(
        "",
        description="OTLP/gRPC collector that is sent traces of calls, as http://collector:4317, "
        "or https:// with TLS; empty sends none.",
    )
    traces_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of traces that begin here that are sampled; those that begin at callers "
        "are sampled where they say so.",
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that serve on the one address, for engine triton; they share the "
        "connections, and each has its share of what is bounded for the server.",
    )
    max_connection_age: float = Field(
        0,
        ge=0,
        le=86_400,
        description="Seconds after which a connection is replaced, by another server's where there "
        "are new ones; 0 is never.",
    )
    max_connection_age_grace: float = Field(
        0,
        ge=0,
        le=86_400,
        description="Seconds that calls on it have to end then; 0 is as long as they take.",
    )

    def of_one_process(self, total: int) -> int:
        """What one process may have of what the server may have; 1 at least, of anything."""
        return max(min(1, total), total // self.processes)

    @model_validator(mode="before")
    @classmethod
    def _as_the_profile_says(cls, given: dict[str, object]) -> dict[str, object]:
        """What nobody set is as it suits the profile."""
        return {**profile.DEFAULTS.get(str(given.get("profile")), {}), **given}

    @model_validator(mode="after")
    def _callers_fit(self) -> "Settings":
        """Refuses what would leave the server open by mistake."""
        if found := list(profile.mistakes(self)):
            raise ValueError("\n".join(found))
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> "Settings":
        """Refuses what the engine would not look at."""
        if self.engine == "triton" and self.networks:
            raise ValueError(
                "networks: is not for engine triton, whose Tritons serve what is in their "
                "repository; write that with convlens-workers repository, and leave this out"
            )
        if self.engine != "embedded" and self.device != "auto":
            raise ValueError(
                f"device: is for the embedded engine alone; under {self.engine} the device of each "
                "network stands in networks.yaml"
            )
        if self.processes > 1 and self.engine != "triton":
            raise ValueError(
                f"processes: is for engine triton alone; under {self.engine} each process would "
                "have networks of its own, so start Triton beside the server "
                "(convlens-workers repository) and use engine triton, or leave this at 1"
            )
        self._check_ports()
        return self

    def _check_ports(self) -> None:
        """Refuses two uses of one port, which several processes would share without a word."""
        names = ("listen", "metrics_listen", "health_listen")
        used: dict[str, Address] = {}
        for name in names:
            text = getattr(self, name)
            if text == "off" or (address := parse_address(text)).port == 0:
                continue
            for other, taken in used.items():
                if address.overlaps(taken):
                    as_other = f"as {other} is" if address == taken else f"and {other} {taken}"
                    raise ValueError(f"{name}: is {address}, {as_other}; give each its own port")
            used[name] = address
        if self.processes > 1 and self.health_listen.endswith(":0"):
            raise ValueError(
                "health_listen: must have a port of its own number with several processes, each "
                "of which would take another free one"
            )

    def dump(self) -> str:
        """The settings as a YAML file that --config reads, without the secret one."""
        if not self.triton_key:
            return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        shown = self.model_dump(mode="json", exclude={SECRET})
        note = f"# {SECRET} is set and not shown; give it as {ENV_PREFIX}{SECRET.upper()}\n"
        return yaml.safe_dump(shown, sort_keys=False) + note

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Code over flags over environment over file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def load_settings(argv: Sequence[str]) -> tuple[Settings, bool]:
    """The settings that the command line, the environment and the file give, and --print-config.

    Raises SettingsError; argparse itself ends the process for --help and unknown flags.
    """
    parser = argparse.ArgumentParser(
        prog="convlens-server",
        description="Serves ConvLens over gRPC. Each setting is a flag, an environment variable "
        f"({ENV_PREFIX}LISTEN, …) and a key of the file; flags win over the environment, "
        "and the environment over the file. `convlens-server token --help` tells how to make a "
        "token for the file of tokens.",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings")
    parser.add_argument("--print-config", action="store_true", help="print the settings and stop")
    file = _config_file(argv)

    class FromFile(Settings):
        model_config = SettingsConfigDict(yaml_file=file)

    flags: CliSettingsSource[argparse.ArgumentParser] = CliSettingsSource(
        FromFile, root_parser=parser, cli_kebab_case=True, cli_implicit_flags=True
    )
    arguments = parser.parse_args(argv)
    try:
        chosen = FromFile(_cli_settings_source=flags(parsed_args=arguments))  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        raise SettingsError("\n".join(_mistakes(error))) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    except (KeyError, AttributeError, TypeError):
        # What stumbles there does not say over what.
        where = file or "the environment"
        raise SettingsError(
            f"{where}: must be settings and their values, of YAML's types"
        ) from None
    except (ValueError, SourceError) as error:
        # A file that is a word; a variable that cannot be read.
        raise SettingsError(f"{file or 'the environment'}: {error}") from None
    return Settings.model_validate(chosen.model_dump()), arguments.print_config


def _config_file(argv: Sequence[str]) -> Path | None:
    """The file that --config names, which must be known before the other settings are read."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config", type=Path)
    file: Path | None = parser.parse_known_args(argv)[0].config
    if file and not file.is_file():
        raise SettingsError(f"--config: there is no file {file}")
    return file


def _mistakes(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for mistake in error.errors():
        name = ".".join(str(part) for part in mistake["loc"])
        text = mistake["msg"].removeprefix("Value error, ")
        if not name:
            # Of settings that do not fit together: the text names them.
            lines.append(text)
        else:
            given = "" if name == SECRET else f" (given: {mistake['input']!r})"
            lines.append(f"{name}: {text}{given}")
    return lines
