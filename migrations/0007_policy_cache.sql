-- MTA-STS policies, kept for as long as they say, so that neither a restart nor a policy host that is away makes workers forget
-- them (RFC 8461 §3.3, §10.2). A policy belongs to the recipient's domain and to no other name.
CREATE TABLE ledger.policy_cache (
    domain text PRIMARY KEY CHECK (length(domain) <= 253),       -- lower-case A-labels
    id text NOT NULL CHECK (length(id) BETWEEN 1 AND 32),        -- under which it was published
    body bytea NOT NULL CHECK (octet_length(body) <= 65536),     -- key:value lines
    fetched_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX policy_cache_expiry ON ledger.policy_cache (expires_at);

GRANT SELECT, INSERT, UPDATE ON ledger.policy_cache TO zegel_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.policy_cache TO zegel_admin;

-- Policies whose time was over a day ago: one that has just expired is still what a clock that runs late holds for in force.
-- Answers how many went.
CREATE FUNCTION ledger.forget_policies(at_most int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    gone int;
BEGIN
    DELETE FROM ledger.policy_cache WHERE domain IN (
        SELECT domain FROM ledger.policy_cache WHERE expires_at < clock_timestamp() - interval '1 day' LIMIT at_most);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
REVOKE ALL ON FUNCTION ledger.forget_policies FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.forget_policies TO zegel_admin;
