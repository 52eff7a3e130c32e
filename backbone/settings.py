"""Settings of each service, read once at the start from the environment and passed down.

Every variable begins with `HEADRACE_`. `.env.example` is generated from this file.
"""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="HEADRACE_", frozen=True, extra="ignore")


class KafkaSettings(_Settings):
    """How to reach Kafka."""

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="host:port of one or more brokers, comma-separated")
    kafka_security_protocol: str = Field("PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
    kafka_sasl_mechanism: str = Field(
        "SCRAM-SHA-512", description="used with SASL_*: SCRAM-SHA-256, SCRAM-SHA-512 or PLAIN"
    )
    kafka_username: str = Field("", description="used with SASL_*")
    kafka_password: SecretStr = Field(SecretStr(""), description="used with SASL_*")
    kafka_ca_file: Path | None = Field(None, description="PEM file of the authorities to trust; empty: the system's")
    kafka_replication_factor: int = Field(1, ge=1, le=7, description="of topics that Headrace creates; 3 in production")


class PostgresSettings(_Settings):
    """How to reach Postgres."""

    postgres_dsn: SecretStr = Field(
        SecretStr("postgresql://postgres@127.0.0.1:5432/headrace"), description="connection string of the database"
    )
    postgres_pool_max: int = Field(8, ge=1, le=100, description="connections a process may hold open")


class ObjectSettings(_Settings):
    """Where large values and document texts are kept."""

    objects_dir: Path = Field(
        Path(".headrace/objects"), description="folder of the object store, shared by all processes"
    )


class ValkeySettings(_Settings):
    """How to reach Valkey (or Redis), which holds only what may be lost."""

    valkey_url: SecretStr = Field(
        SecretStr(""),
        description="redis://[user:password@]host:port/db, or rediss://; empty: nothing is shared or cached",
    )


class OpensearchSettings(_Settings):
    """How to reach OpenSearch, and how its indices are made."""

    opensearch_url: str = Field(
        "", description="https://host:9200 of one or more nodes, comma-separated; empty: there is no OpenSearch"
    )
    opensearch_user: str = Field("", description="user name; empty: none is sent")
    opensearch_password: SecretStr = Field(SecretStr(""), description="of that user")
    opensearch_ca_file: Path | None = Field(
        None, description="PEM file of the authorities to trust; empty: the system's"
    )
    opensearch_shards: int = Field(1, ge=1, le=1024, description="shards of an index that Headrace creates")
    opensearch_replicas: int = Field(
        0, ge=0, le=10, description="copies of each shard beside the first; 1 or more in production"
    )
    opensearch_refresh_ms: int = Field(
        500, ge=100, le=60_000, description="what is written to OpenSearch can be found so much later at most, ms"
    )


class GenerationSettings(_Settings):
    """Which index generation answers."""

    generation_alias: str = Field("live", description="alias whose index generation answers questions")


class GatewaySettings(
    GenerationSettings, KafkaSettings, PostgresSettings, ObjectSettings, ValkeySettings, OpensearchSettings
):
    """The gateway."""

    gateway_host: str = Field("127.0.0.1", description="address to listen on")
    gateway_port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    api_keys_file: Path = Field(
        Path(".headrace/api-keys.json"),
        description='JSON: {"<key>": {"tenant": "<name>", "groups": ["<acl group>", ...]}, ...}',
    )
    body_max_bytes: int = Field(32 * 1024 * 1024, ge=1024, description="largest request body, bytes")
    query_timeout_ms: int = Field(30_000, ge=100, le=600_000, description="from accepting a question to its end, ms")
    score_wait_ms: int = Field(
        1_000,
        ge=0,
        le=10_000,
        description="how long the end of a stream is held back for the scores, ms; 0: not at all",
    )
    sweep_interval_ms: int = Field(1_000, ge=100, le=60_000, description="pause between two rounds of the sweeper, ms")
    republish_after_ms: int = Field(
        2_000, ge=100, le=60_000, description="an end that is stored but not published for this long is published again"
    )
    questions_max: int = Field(
        256, ge=1, description="accepted questions without an end, of all tenants together; fewer where they end slowly"
    )
    questions_min: int = Field(2, ge=1, description="however slowly questions end, so many may be open")
    questions_per_tenant_max: int = Field(128, ge=1, description="accepted questions without an end, of one tenant")
    streams_max: int = Field(4_000, ge=1, description="event streams that this gateway holds open")
    stop_notice_ms: int = Field(
        0,
        ge=0,
        le=60_000,
        description="after SIGTERM /ready says no for so long before the port is closed, ms; "
        "as long as a load balancer needs to notice",
    )


class LanguageModelSettings(_Settings):
    """The language model that writes answers; without `llm_base_url` the extractive answerer does."""

    llm_base_url: str = Field(
        "", description="OpenAI-compatible endpoint, as https://host/v1; empty: extractive answers"
    )
    llm_model: str = Field("", description="name of the model at that endpoint")
    llm_api_key: SecretStr = Field(SecretStr(""), description="key of that endpoint; empty: none is sent")
    llm_backup_base_url: str = Field("", description="endpoint that is asked where the first one fails; empty: none")
    llm_backup_model: str = Field("", description="name of the model at the backup endpoint")
    llm_backup_api_key: SecretStr = Field(SecretStr(""), description="key of the backup endpoint; empty: none is sent")
    llm_context_tokens: int = Field(2_048, ge=256, description="most tokens of passages in a prompt, estimated")
    llm_max_tokens: int = Field(256, ge=16, description="most tokens of an answer")
    llm_first_token_timeout_ms: int = Field(15_000, ge=100, description="longest wait for the first token, ms")
    llm_token_timeout_ms: int = Field(10_000, ge=100, description="longest wait between two tokens, ms")
    feature_context_limit: str = Field(
        "", description="small: prompts hold few passages; empty: as llm_context_tokens says"
    )


class EncoderSettings(_Settings):
    """What makes vectors of text."""

    model_dir: Path = Field(
        Path(".headrace/models/all-MiniLM-L6-v2"), description="folder of model.safetensors and tokenizer.json"
    )
    encoder_threads: int = Field(0, ge=0, le=256, description="threads of the encoder; 0: one per core")
    encoder_chunks_per_s: float = Field(
        0, ge=0, description="most chunks that the embed stage has encoded in a second; 0: as fast as it can"
    )
    encoder_device: str = Field("", description="of sentence-transformers, as cpu or cuda; empty: the best there is")
    embeddings_base_url: str = Field(
        "", description="OpenAI-compatible endpoint of the embedders 'openai:<model>', as https://host/v1"
    )
    embeddings_api_key: SecretStr = Field(SecretStr(""), description="key of that endpoint; empty: none is sent")
    embeddings_batch_max: int = Field(256, ge=1, le=2_048, description="most texts in a request")
    embeddings_batch_tokens: int = Field(100_000, ge=256, description="most tokens in a request, estimated")
    embeddings_input_tokens: int = Field(
        8_000, ge=64, description="most tokens of a text, estimated; what is longer is cut"
    )
    embeddings_concurrency: int = Field(4, ge=1, le=64, description="requests at the same time")
    embeddings_timeout_ms: int = Field(30_000, ge=100, description="longest wait for an answer, ms")


class WorkerSettings(
    GenerationSettings,
    KafkaSettings,
    PostgresSettings,
    ObjectSettings,
    ValkeySettings,
    OpensearchSettings,
    LanguageModelSettings,
    EncoderSettings,
):
    """A worker process."""

    lexical_dir: Path = Field(Path(".headrace/lexical"), description="folder of this process's own lexical view")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of /metrics; 0: not served")
    generation: str = Field(
        "", description="index generation that this worker chunks, embeds and indexes; empty: the one that answers"
    )
    replay_nice: int = Field(
        19, ge=0, le=19, description="niceness of a replay's processes and of their session; 19: live work goes first"
    )
    replay_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="threads of a replay's encoder; 0: half as many as cores, so that live work finds one",
    )
    replay_chunks_per_s: float = Field(
        0, ge=0, description="most chunks that one replay has encoded in a second; 0: as fast as it can"
    )
    retry_max_ms: int = Field(120_000, ge=0, description="how long a transient failure is retried in place, ms")
    buffer_max_bytes: int = Field(64 * 1024 * 1024, ge=1024 * 1024, description="records in flight per stage, bytes")
    question_lease_ms: int = Field(
        10_000, ge=1_000, le=120_000, description="a question whose worker is silent for this long is taken over, ms"
    )
    parse_timeout_ms: int = Field(60_000, ge=100, description="longest time that parsing one document may take, ms")
    parse_memory_bytes: int = Field(
        1024**3, ge=128 * 1024**2, description="memory that parsing one document may use, bytes"
    )
    document_max_bytes: int = Field(20 * 1024 * 1024, ge=1024, description="largest file or text, bytes")
    overdue_after_ms: int = Field(
        600_000,
        ge=1_000,
        description="a version that is not served so long after its acceptance, and waits for no stage, is done again",
    )
    overdue_interval_ms: int = Field(
        60_000, ge=100, description="pause between two looks for such versions, ms; the operator stage looks"
    )
    overdue_reissues_max: int = Field(100, ge=1, description="versions that one look has done again")
    uri_hosts: str = Field(
        "", description="https hosts whose documents may be fetched by uri, comma-separated; empty: none"
    )
