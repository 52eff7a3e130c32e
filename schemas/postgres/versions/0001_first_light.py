"""Make the tables of documents, index generations and questions."""

from alembic import op

revision = "0001"
down_revision = None

# One statement each: asyncpg prepares what it runs, and only single statements can be prepared.
STATEMENTS = (
    "CREATE EXTENSION IF NOT EXISTS vector",
    # One half of the fence. The row outlives deletes, so a version number is never given twice.
    # Ids are compared by bytes (COLLATE "C"), so cursors do not depend on the server's locale.
    """
    CREATE TABLE documents (
        tenant           text COLLATE "C" NOT NULL,
        document         text COLLATE "C" NOT NULL,
        latest_version   bigint NOT NULL DEFAULT 0,      -- 0: nothing was accepted yet
        deleted          boolean NOT NULL DEFAULT false, -- the latest version is a delete
        origins          jsonb NOT NULL DEFAULT '{}',    -- "<topic id>/<partition>" -> {"offset", "version"}
        -- attributes of the latest version, for listing
        collection       text COLLATE "C" NOT NULL DEFAULT 'default',
        title            text,
        uri              text,
        content_type     text,
        metadata         jsonb NOT NULL DEFAULT '{}',
        acl              text[],                         -- null: every reader of the tenant
        n_bytes          bigint NOT NULL DEFAULT 0,      -- UTF-8 bytes of the submitted text
        -- status as readers see it, projected from lifecycle events
        status           text NOT NULL DEFAULT 'accepted',
        status_version   bigint NOT NULL DEFAULT 0,      -- version that status, stage, failure and n_chunks speak of
        status_rank      smallint NOT NULL DEFAULT 0,    -- events of that version with a lower rank come late
        stage            text,                           -- stage that reported the status
        failure_reason   text,
        failure_message  text,
        warnings         text[] NOT NULL DEFAULT '{}',
        warnings_version bigint NOT NULL DEFAULT 0,
        n_chunks         integer,
        accepted_at      timestamptz,
        updated_at       timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant, document)                   -- look-up by id; listing of a tenant in order of id
    )
    """,
    # Listing of one collection, page by page, in order of id.
    "CREATE INDEX documents_by_collection ON documents (tenant, collection, document)",
    # Listing by status ("what failed?") without reading the documents that are fine.
    "CREATE INDEX documents_by_status ON documents (tenant, status, document)",
    # An index generation: a chunker and an embedder, never changed once made.
    """
    CREATE TABLE generations (
        generation text COLLATE "C" PRIMARY KEY,
        chunker    text NOT NULL,
        embedder   text NOT NULL,
        dim        integer NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # What questions name; moving one row switches the generation that answers.
    """
    CREATE TABLE aliases (
        alias      text COLLATE "C" PRIMARY KEY,
        generation text COLLATE "C" NOT NULL REFERENCES generations,
        moved_at   timestamptz NOT NULL DEFAULT now()
    )
    """,
    # The other half of the fence: which version a generation serves. The row outlives deletes.
    """
    CREATE TABLE live (
        generation     text COLLATE "C" NOT NULL,
        tenant         text COLLATE "C" NOT NULL,
        document       text COLLATE "C" NOT NULL,
        version        bigint NOT NULL,
        deleted        boolean NOT NULL DEFAULT false,
        content_sha256 text,                             -- parsed text in the object store
        title          text,
        uri            text,
        collection     text COLLATE "C" NOT NULL DEFAULT 'default',
        metadata       jsonb NOT NULL DEFAULT '{}',
        acl            text[],
        n_chunks       integer NOT NULL DEFAULT 0,
        indexed_at     timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (generation, tenant, document)       -- the serving fence joins on it, the writers lock by it
    )
    """,
    # Filters that keep few documents are counted, and then searched exactly. path_ops: only containment is asked.
    "CREATE INDEX live_by_metadata ON live USING gin (metadata jsonb_path_ops)",
    # Accepted questions. The gateway inserts, generate claims and finishes; every change is a compare-and-set.
    """
    CREATE TABLE queries (
        id              uuid PRIMARY KEY,                -- UUIDv7, so new rows land at the right edge
        tenant          text COLLATE "C" NOT NULL,
        "user"          text,
        question        jsonb NOT NULL,                  -- the whole QueryAsked, enough to produce it again
        state           text NOT NULL DEFAULT 'pending'
                        CHECK (state IN ('pending', 'rejected', 'claimed', 'finished')),
        reply_partition integer NOT NULL,
        deadline        timestamptz NOT NULL,            -- compared with the clock of Postgres only
        generation      text COLLATE "C" NOT NULL,       -- fixed when the question is accepted
        attempt         integer NOT NULL DEFAULT 0,      -- number of claims
        answer          jsonb,                           -- finished with an answer
        error           jsonb,                           -- finished with {"reason", "message"}
        created_at      timestamptz NOT NULL DEFAULT now(),
        claimed_at      timestamptz,
        finished_at     timestamptz,
        published_at    timestamptz
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("queries", "live", "aliases", "generations", "documents"):
        op.execute(f"DROP TABLE {table}")
