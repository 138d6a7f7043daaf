from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thresher.bootstrap import choose_provider, make_client
from thresher.core.config import Provider, Settings, load_settings
from thresher.core.errors import BadConfiguration

AZURE = {"azure_openai_endpoint": "https://x.example", "azure_openai_api_key": "k", "azure_openai_deployment": "d"}


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("given", "provider"),
    [
        ({}, Provider.STRUCTURAL),
        ({"openai_api_key": "k"}, Provider.OPENAI),
        ({"openai_base_url": "http://x.example"}, Provider.OPENAI),
        (AZURE, Provider.AZURE),
        ({**AZURE, "openai_api_key": "k"}, Provider.AZURE),
        ({"azure_openai_endpoint": "https://x.example", "openai_api_key": "k"}, Provider.OPENAI),
        ({"azure_openai_api_key": "k"}, Provider.AZURE),
        ({"azure_openai_deployment": "d"}, Provider.AZURE),
        ({"llm_model": "gpt-4o"}, Provider.OPENAI),
        ({**AZURE, "llm_provider": "structural"}, Provider.STRUCTURAL),
    ],
)
def test_the_first_configured_provider_reads_and_half_a_model_is_not_taken_for_none(
    given: dict[str, Any], provider: Provider
) -> None:
    assert choose_provider(load_settings(**given)) is provider


@pytest.mark.parametrize("missing", sorted(AZURE))
def test_half_an_azure_configuration_names_what_is_missing(missing: str) -> None:
    given = {name: value for name, value in AZURE.items() if name != missing}
    with pytest.raises(BadConfiguration) as refusal:
        make_client(load_settings(**given), 1)
    assert [name for name in AZURE if name.upper() in str(refusal.value)] == [missing]
