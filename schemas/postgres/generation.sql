-- One index generation: its chunks and their vectors. {table} and {dim} are filled in by generation.py.

CREATE TABLE {table} (
    chunk_id         text COLLATE "C" PRIMARY KEY,  -- rankers' proposals are read by it; two rows of one id cannot be
    tenant           text COLLATE "C" NOT NULL,
    document         text COLLATE "C" NOT NULL,
    ordinal          integer NOT NULL,              -- place in the document, from 0
    text             text NOT NULL,
    start_char       integer NOT NULL,              -- span in the parsed text, code points, half-open
    end_char         integer NOT NULL,
    headings         jsonb NOT NULL,                -- heading path, outermost first
    n_tokens         integer NOT NULL,
    sentences        jsonb NOT NULL,                -- [[start, end], ...] in `text`
    sentence_vectors bytea STORAGE EXTERNAL NOT NULL, -- little-endian float16, one row of {dim} a sentence
    collection       text COLLATE "C" NOT NULL,
    metadata         jsonb NOT NULL,
    acl              text[],                        -- null: every reader of the tenant
    page             integer,                       -- where it begins, from 1; null: the format has no pages
    -- MAIN keeps the vector inside the row, so an exact search reads no second table.
    embedding        halfvec({dim}) STORAGE MAIN NOT NULL
);

-- Replacing a document finds its rows by it; so does an exact search, from the documents that a filter keeps.
CREATE INDEX {table}_by_document ON {table} (tenant, document);

-- Nearest vectors by cosine when a filter keeps many rows. m and ef_construction are pgvector's defaults, made explicit.
CREATE INDEX {table}_by_embedding ON {table} USING hnsw (embedding halfvec_cosine_ops)
    WITH (m = 16, ef_construction = 64);
