-- One shard: everything of a message lives in it, and only its leader writes. Nothing is unique over shards but uuids.
-- message, content, recipient and event are partitioned by day through their UUIDv7 keys, whose first 48 bits are milliseconds.

-- A timeline of this shard: a new row at every promotion or restore. Readers of the feed go on from first_xid.
CREATE TABLE ledger.incarnation (
    id uuid PRIMARY KEY,
    timeline int NOT NULL UNIQUE,
    first_xid xid8 NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ledger.message (
    id uuid NOT NULL,
    tenant text NOT NULL,
    accepted_at timestamptz NOT NULL,
    ruleset text NOT NULL,
    size bigint NOT NULL,                    -- bytes of content as received
    frames int NOT NULL,                     -- sealed frames of content
    recipients int NOT NULL,
    deliveries int NOT NULL,
    open_deliveries int NOT NULL,
    keyed_digest bytea NOT NULL,             -- HMAC under a key derived from the message key
    batch_key_id uuid NOT NULL,              -- content key: batch, step of its ratchet, wrapped key (null once shredded)
    batch_key_index int NOT NULL,
    wrapped_message_key bytea,
    metadata_key_id uuid NOT NULL,           -- metadata key: outlives the content
    metadata_key_index int NOT NULL,
    wrapped_metadata_key bytea NOT NULL,
    sealed_envelope bytea NOT NULL,
    reports_on uuid,                         -- a delivery status notification: the message it reports on
    withdrawn_at timestamptz,
    shredded_at timestamptz,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

-- AEAD frames: incompressible, so stored as they are.
CREATE TABLE ledger.content (
    message_id uuid NOT NULL,
    frame_no int NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (message_id, frame_no)
) PARTITION BY RANGE (message_id);
ALTER TABLE ledger.content ALTER COLUMN sealed SET STORAGE EXTERNAL;

CREATE TABLE ledger.recipient (
    message_id uuid NOT NULL,
    rcpt_no int NOT NULL,
    delivery_no int NOT NULL,
    sealed_address bytea NOT NULL,
    state text NOT NULL DEFAULT 'open'
        CHECK (state IN ('open', 'held', 'delivered', 'refused', 'bounced', 'expired', 'cancelled', 'withdrawn')),
    PRIMARY KEY (message_id, rcpt_no)
) PARTITION BY RANGE (message_id);

-- Read in the order (arrived, id) below the oldest running transaction: nothing that commits late is skipped.
CREATE TABLE ledger.event (
    id uuid NOT NULL,
    arrived xid8 NOT NULL DEFAULT pg_current_xact_id(),
    tenant text NOT NULL,
    message_id uuid,
    rcpt_no int,
    kind text NOT NULL,
    at timestamptz NOT NULL,
    reason_code text,
    possible_duplicate boolean NOT NULL DEFAULT false,
    sealed_detail bytea,
    PRIMARY KEY (arrived, id)
) PARTITION BY RANGE (id);
CREATE INDEX event_of_message ON ledger.event (message_id);

CREATE TABLE ledger.batch_key (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('content', 'metadata')),
    epoch int NOT NULL,
    created_at timestamptz NOT NULL,
    wrapped bytea NOT NULL                   -- K0, once for every region's key
);
-- The key service decides who may open; that the api sees no content keys at all costs nothing more. A view and not row security:
-- COPY FROM, with which edges write, does not work on a table that has it.
CREATE VIEW ledger.metadata_batch_key WITH (security_barrier) AS
    SELECT id, tenant, purpose, epoch, created_at, wrapped FROM ledger.batch_key WHERE purpose = 'metadata';

-- The queue's head: only what is open, so that it stays small; a row goes when its delivery ends, the events stay.
CREATE TABLE ledger.delivery (
    message_id uuid NOT NULL,
    no int NOT NULL,
    tenant text NOT NULL,
    lane text NOT NULL,                      -- recipient domain, A-labels, lower case
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'waiting', 'claimed', 'held')),
    due timestamptz NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,         -- grows with every claim; a completion must name it
    worker uuid,
    possible_duplicate boolean NOT NULL DEFAULT false,
    delay_reported boolean NOT NULL DEFAULT false,
    PRIMARY KEY (message_id, no)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2);
CREATE INDEX delivery_ready ON ledger.delivery (lane, due) WHERE state = 'ready';
CREATE INDEX delivery_waiting ON ledger.delivery (due) WHERE state = 'waiting';
CREATE INDEX delivery_claimed ON ledger.delivery (worker) WHERE state = 'claimed';
CREATE INDEX delivery_held ON ledger.delivery (message_id) WHERE state = 'held';

-- One lease a worker, not one a delivery.
CREATE TABLE ledger.worker_heartbeat (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    region text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- What a worker may have ended with a final dot, one row a worker, written over at every registration.
CREATE TABLE ledger.dot_in_flight (
    worker uuid PRIMARY KEY,
    message_ids uuid[] NOT NULL,
    nos int[] NOT NULL,
    fences bigint[] NOT NULL,
    registered_at timestamptz[] NOT NULL
) WITH (fillfactor = 50);

-- Large content while it comes in, before its message row.
CREATE TABLE ledger.upload (
    message_id uuid PRIMARY KEY,
    tenant text NOT NULL,
    incarnation uuid NOT NULL,
    frames int NOT NULL,
    touched_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Tells a client that repeats what we took but could not answer. The row is what a replay and a withdrawal compare and set.
CREATE TABLE ledger.replay (
    tag bytea PRIMARY KEY CHECK (octet_length(tag) = 32),
    message_id uuid NOT NULL,
    accepted_at timestamptz NOT NULL,
    replayed_at timestamptz
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
CREATE INDEX replay_of_message ON ledger.replay (message_id);

-- Verdicts on recipient hosts, and the blind index of addresses: filled by workers.
CREATE TABLE ledger.verdict_cache (
    host text NOT NULL,
    address inet NOT NULL,
    findings jsonb NOT NULL,
    judged_at timestamptz NOT NULL,
    fresh_until timestamptz NOT NULL,
    PRIMARY KEY (host, address)
);
CREATE TABLE ledger.address_index (
    tenant text NOT NULL,
    blind bytea NOT NULL,                    -- HMAC of the normalised address under a key that edges do not hold
    message_id uuid NOT NULL,
    rcpt_no int NOT NULL,
    PRIMARY KEY (tenant, blind, message_id, rcpt_no)
);

-- The least uuid of a moment: the bound of a partition.
CREATE FUNCTION ledger.uuid_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT rpad(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- A UUIDv7 (RFC 9562 §5.7) of this moment, for rows that the database itself writes.
CREATE FUNCTION ledger.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
            || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid
$$;

-- Makes the partitions of `days` days from the first one; answers how many it made. A day whose rows are already in the
-- default partition stays there.
CREATE FUNCTION ledger.ensure_partitions(first date, days int) RETURNS int LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    parent text; day date; made int := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['message', 'content', 'recipient', 'event'] LOOP
        FOR day IN SELECT first + n FROM generate_series(0, days - 1) AS n LOOP
            IF to_regclass(format('ledger.%I', parent || '_' || to_char(day, 'YYYYMMDD'))) IS NULL THEN
                BEGIN
                    EXECUTE format('CREATE TABLE ledger.%I PARTITION OF ledger.%I FOR VALUES FROM (%L) TO (%L)',
                        parent || '_' || to_char(day, 'YYYYMMDD'), parent,
                        ledger.uuid_floor(day::timestamp AT TIME ZONE 'UTC'),
                        ledger.uuid_floor((day + 1)::timestamp AT TIME ZONE 'UTC'));
                    made := made + 1;
                EXCEPTION WHEN check_violation THEN
                    RAISE WARNING 'ledger.%: rows of % stay in the default partition', parent, day;
                END;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

CREATE TABLE ledger.message_default PARTITION OF ledger.message DEFAULT;
CREATE TABLE ledger.content_default PARTITION OF ledger.content DEFAULT;
CREATE TABLE ledger.recipient_default PARTITION OF ledger.recipient DEFAULT;
CREATE TABLE ledger.event_default PARTITION OF ledger.event DEFAULT;
SELECT ledger.ensure_partitions((now() AT TIME ZONE 'UTC')::date, 8);

-- Drops the partitions of days before `keep_from`, except where a delivery of that day is open. Answers the days dropped.
CREATE FUNCTION ledger.drop_partitions(keep_from date) RETURNS int LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    day date; name text; parent text; dropped int := 0;
BEGIN
    FOR day IN
        SELECT DISTINCT to_date(right(c.relname, 8), 'YYYYMMDD') FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'ledger' AND c.relname ~ '^(message|content|recipient|event)_[0-9]{8}$' ORDER BY 1
    LOOP
        CONTINUE WHEN day >= keep_from;
        CONTINUE WHEN EXISTS (SELECT 1 FROM ledger.delivery d
            WHERE d.message_id >= ledger.uuid_floor(day::timestamp AT TIME ZONE 'UTC')
              AND d.message_id < ledger.uuid_floor((day + 1)::timestamp AT TIME ZONE 'UTC'));
        FOREACH parent IN ARRAY ARRAY['message', 'content', 'recipient', 'event'] LOOP
            name := parent || '_' || to_char(day, 'YYYYMMDD');
            IF to_regclass(format('ledger.%I', name)) IS NOT NULL THEN
                EXECUTE format('DROP TABLE ledger.%I', name);
            END IF;
        END LOOP;
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
