"""Settings: read where a process starts, passed on as values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from thresher.core.errors import BadConfiguration


class Provider(StrEnum):
    """Who reads the subtrees. ``AUTO`` takes the first that is configured: azure, openai, else structural.

    ``LOCAL`` is a small real model on this machine.
    """

    AUTO = "auto"
    STRUCTURAL = "structural"
    OPENAI = "openai"
    AZURE = "azure"
    LOCAL = "local"


class ProcessingMode(StrEnum):
    """How nodes are handed to workers. ``AUTO``: one alone, two in one request, more in parallel."""

    AUTO = "auto"
    PARALLEL = "parallel"
    BATCH = "batch"
    SEQUENTIAL = "sequential"


class Settings(BaseSettings):
    """Everything that can be set by environment variable or in ``.env``; ``.env.example`` explains each."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True
    )

    database_url: str = "sqlite:///thresher.db"
    database_auto_upgrade: bool = False
    enable_parallel_processing: bool = True
    processing_mode: ProcessingMode = ProcessingMode.AUTO
    max_parallel_nodes: int = Field(default=10, ge=1, le=1024)
    batch_max_items: int = Field(default=20, ge=1, le=1000)
    batch_max_tokens: int = Field(default=8192, ge=256)

    llm_provider: Provider = Provider.AUTO
    llm_model: str | None = None
    openai_api_key: SecretStr | None = None
    openai_base_url: str | None = None
    azure_openai_endpoint: str | None = None
    azure_openai_api_key: SecretStr | None = None
    azure_openai_deployment: str | None = None
    openai_api_version: str = "2024-10-21"
    local_model_gguf: Path | None = None
    request_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    hedge_requests: bool = False
    hedge_percentile: float = Field(default=95.0, gt=0, lt=100)
    max_output_tokens: int = Field(default=4096, ge=16)
    temperature: float = Field(default=0.0, ge=0, le=2)
    answer_max_fields: int | None = Field(default=None, ge=1)
    answer_max_value_length: int | None = Field(default=None, ge=1)
    mask_pii: bool = True
    prices_file: Path | None = None
    cache_answers: bool = True
    cache_max_mb: int = Field(default=256, ge=1, le=1_048_576)

    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    adaptive_concurrency: bool = True
    breaker_failures: int = Field(default=5, ge=1)
    breaker_open_seconds: float = Field(default=60.0, gt=0)
    resource_patience_seconds: float = Field(default=1800.0, gt=0)

    max_retries: int = Field(default=3, ge=0, le=100)
    retry_base_seconds: float = Field(default=1.0, gt=0)
    retry_max_seconds: float = Field(default=300.0, gt=0)
    lease_seconds: float = Field(default=60.0, ge=3)

    data_dir: Path = Path("thresher-data")
    source_retention_days: int = Field(default=30, ge=1, le=36_500)
    serve_host: str = "127.0.0.1"
    serve_port: int = Field(default=8000, ge=0, le=65_535)
    serve_allowed_hosts: Annotated[tuple[str, ...] | None, NoDecode] = None
    max_concurrent_runs: int = Field(default=4, ge=1, le=256)
    max_upload_bytes: int = Field(default=1024**3, ge=1)
    max_body_bytes: int = Field(default=1024**2, ge=1024)
    api_requests_per_minute: int = Field(default=600, ge=1)
    shutdown_grace_seconds: float = Field(default=30.0, ge=0, le=3600)

    fetch_workers: int = Field(default=8, ge=1, le=256)
    fetch_timeout_seconds: float = Field(default=120.0, gt=0, le=3600)
    allowed_private_networks: str | None = None
    notification_max_retries: int = Field(default=7, ge=0, le=20)
    notification_retry_seconds: float = Field(default=5.0, gt=0)
    email_url: SecretStr | None = None

    max_subtree_bytes: int = Field(default=32_768, ge=1_024)
    max_document_bytes: int = Field(default=16 * 1024**3, ge=1)
    max_depth: int = Field(default=256, ge=1, le=256)  # lxml takes no deeper subtree
    keep_payloads: bool = False

    log_level: str = Field(default="WARNING", pattern="^(?i:debug|info|warning|error|critical)$")
    log_format: str = Field(default="console", pattern="^(console|json)$")
    log_file: Path | None = None
    metrics_port: int | None = Field(default=None, ge=0, le=65_535)
    metrics_host: str = "127.0.0.1"
    otel_exporter_otlp_endpoint: str | None = Field(default=None, pattern="^https?://")

    @field_validator("allowed_private_networks")
    @classmethod
    def _networks_are_readable(cls, value: str | None) -> str | None:
        for part in (value or "").split(","):
            if part.strip():
                ip_network(part.strip())
        return value

    @field_validator("serve_allowed_hosts", mode="before")
    @classmethod
    def _names_are_separated_by_commas(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    def secrets(self) -> tuple[str, ...]:
        """Every secret among the settings: keys, passwords within addresses, values in the query of addresses."""
        values = [getattr(self, name) for name in type(self).model_fields]
        keys = [value.get_secret_value().strip() for value in values if isinstance(value, SecretStr)]
        texts = [*(value for value in values if isinstance(value, str)), *keys]
        addresses = [value for value in texts if "://" in value]
        return tuple({*keys, *(secret for address in addresses for secret in _secrets_in(address))} - {""})


def _secrets_in(address: str) -> Iterator[str]:
    """The password of an address (its user where it has none), and what its query holds, as written and as meant."""
    with suppress(ValueError):
        parts = urlsplit(address)
        for secret in (parts.password or parts.username or "", *(value for _name, value in parse_qsl(parts.query))):
            yield secret
            yield unquote(secret)


def load_settings(**overrides: object) -> Settings:
    """Reads the settings of this process; ``overrides`` win over the environment.

    Raises:
        BadConfiguration: a variable or the file ``.env`` is unusable; the message names each one and says why.
    """
    try:
        _check_file(Path(str(Settings.model_config["env_file"])))
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic validates them
    except ValidationError as error:
        raise BadConfiguration(_explain(error)) from error


def _check_file(path: Path) -> None:
    """Refuses a file of settings with lines that would be passed over.

    Raises:
        BadConfiguration: it cannot be read, or a line cannot; the message does not repeat the line, it may hold a key.
    """
    if not path.is_file():
        return
    from dotenv.parser import parse_stream  # noqa: PLC0415 # few have such a file

    try:
        with path.open(encoding="utf-8") as stream:
            broken = [_line(*binding.original) for binding in parse_stream(stream) if binding.error]
    except UnicodeDecodeError as error:
        raise BadConfiguration(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from error
    except OSError as error:
        raise BadConfiguration(f"{path} cannot be read: {error.strerror}.") from error
    if broken:
        raise BadConfiguration(f"{path}, line {broken[0]}: this is no NAME=value. Mend the line, or begin it with #.")


def _line(text: str, first: int) -> int:
    """The line on which a piece of the file says something; blank lines may stand before that."""
    return first + text[: len(text) - len(text.lstrip())].count("\n")


def _explain(error: ValidationError) -> str:
    """One sentence per unusable variable, without the value of secrets."""
    sentences = [
        f"{'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg'].lower()}"
        for problem in error.errors(include_input=False, include_url=False)
    ]
    return (
        "Unusable settings: "
        + "; ".join(sentences)
        + ". Change it in the environment or in .env; .env.example says what each variable takes."
    )
