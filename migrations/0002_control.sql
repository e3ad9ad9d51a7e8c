-- Tenants, credentials and key sets: in the first shard only, read by every node and cached under one version number.
CREATE TABLE control.version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    number bigint NOT NULL DEFAULT 1,
    -- Tells a reader on a member how old what it sees is.
    heartbeat_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO control.version DEFAULT VALUES;

CREATE TABLE control.tenant (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name text NOT NULL,
    default_ruleset text NOT NULL,
    -- What becomes of a delivery whose final dot nobody answered: sent again (marked) or held for an operator.
    in_doubt text NOT NULL DEFAULT 'resend' CHECK (in_doubt IN ('resend', 'hold')),
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz
);

CREATE TABLE control.sender_domain (
    domain text PRIMARY KEY CHECK (domain = lower(domain)),
    tenant text NOT NULL REFERENCES control.tenant (id)
);

-- SCRAM-SHA-256 verifiers (RFC 5802): what is stored does not log in.
CREATE TABLE control.credential (
    id uuid PRIMARY KEY,
    tenant text NOT NULL REFERENCES control.tenant (id),
    username text NOT NULL UNIQUE,
    salt bytea NOT NULL,
    iterations int NOT NULL CHECK (iterations >= 4096),
    stored_key bytea NOT NULL,
    server_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- Shown once, stored as a hash of a 256-bit random secret. No tenant: the key of an operator, who sees all of them.
CREATE TABLE control.api_key (
    id uuid PRIMARY KEY,
    tenant text REFERENCES control.tenant (id),
    label text NOT NULL,
    scopes text[] NOT NULL,
    secret_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- Region key sets, signed by the cluster's root: every node checks the signature against the root in its own configuration.
CREATE TABLE control.key_set (
    version bigint PRIMARY KEY,
    signed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The key of a tenant's replay tags for one day, the same on every edge; gone when its window is over.
CREATE TABLE control.replay_key (
    tenant text NOT NULL,
    day date NOT NULL,
    key bytea NOT NULL CHECK (octet_length(key) = 32),
    PRIMARY KEY (tenant, day)
);

CREATE TABLE control.config (
    key text PRIMARY KEY,
    value jsonb NOT NULL
);
CREATE TABLE control.config_change (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    who text NOT NULL,
    key text NOT NULL,
    before jsonb,
    after jsonb
);

CREATE FUNCTION control.bump_version() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = control, pg_temp AS $$
BEGIN
    UPDATE control.version SET number = number + 1, heartbeat_at = clock_timestamp();
    RETURN NULL;
END $$;
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tenant', 'sender_domain', 'credential', 'api_key', 'key_set', 'config'] LOOP
        EXECUTE format('CREATE TRIGGER bump_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON control.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION control.bump_version()', name);
    END LOOP;
END $$;

-- Today's key and yesterday's, made by whoever asks first. The candidate is the caller's own randomness.
CREATE FUNCTION control.replay_keys(of_tenant text, today date, candidate bytea)
    RETURNS TABLE (day date, key bytea) LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = control, pg_temp AS $$
BEGIN
    INSERT INTO control.replay_key VALUES (of_tenant, today, candidate) ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT k.day, k.key FROM control.replay_key k
        WHERE k.tenant = of_tenant AND k.day IN (today, today - 1) ORDER BY k.day DESC;
END $$;
REVOKE ALL ON FUNCTION control.replay_keys, control.bump_version FROM PUBLIC;

GRANT SELECT ON control.version, control.tenant, control.sender_domain, control.key_set
    TO zegel_edge, zegel_worker, zegel_api;
GRANT SELECT ON control.credential TO zegel_edge;
GRANT EXECUTE ON FUNCTION control.replay_keys TO zegel_edge;
GRANT SELECT ON control.api_key TO zegel_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA control TO zegel_admin;
