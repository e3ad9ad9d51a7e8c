-- What scans of recipient hosts found, one row for each address of a host, shared by all workers. In its place stood a table that
-- nothing ever used. No row names a recipient: hosts, their addresses, what they accept.
DROP TABLE ledger.verdict_cache;

CREATE TABLE ledger.host_scan (
    host text NOT NULL CHECK (length(host) BETWEEN 1 AND 253),   -- the name asked for (SNI), lower-case A-labels
    address inet NOT NULL,
    port int NOT NULL CHECK (port BETWEEN 1 AND 65535),
    version bigint NOT NULL DEFAULT 0,                           -- counts up with every result and every invalidation
    facts bytea CHECK (octet_length(facts) <= 16384),            -- canonical JSON; null until the first result
    -- With what it was seen: SHA-256 of each leaf certificate, one behind the other, and of the set of TLSA records.
    certificates bytea CHECK (octet_length(certificates) % 32 = 0 AND octet_length(certificates) <= 512),
    tlsa bytea CHECK (octet_length(tlsa) = 32),                  -- null: no records were in force
    judged_at timestamptz,
    fresh_until timestamptz,
    invalidated_at timestamptz,                                  -- a delivery saw something else
    scanner uuid,                                                -- who scans, and until when nobody else does
    lease_until timestamptz,
    PRIMARY KEY (host, address, port),
    CHECK ((facts IS NULL) = (judged_at IS NULL) AND (facts IS NULL) = (fresh_until IS NULL)),
    CHECK ((scanner IS NULL) = (lease_until IS NULL))
) WITH (fillfactor = 70);

-- Workers keep results and never take one away. The api reads what was found, and by whom is nobody's business there.
GRANT SELECT, INSERT, UPDATE ON ledger.host_scan TO zegel_worker;
GRANT SELECT (host, address, port, version, facts, certificates, tlsa, judged_at, fresh_until, invalidated_at, lease_until)
    ON ledger.host_scan TO zegel_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.host_scan TO zegel_admin;

-- Results whose time was over a day ago, and claims of scans that never ended. Answers how many went.
CREATE FUNCTION ledger.forget_host_scans(at_most int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    gone int;
BEGIN
    DELETE FROM ledger.host_scan h USING (
        SELECT host, address, port FROM ledger.host_scan
        WHERE coalesce(greatest(fresh_until, lease_until), '-infinity') < clock_timestamp() - interval '1 day'
        LIMIT at_most FOR UPDATE SKIP LOCKED) old
    WHERE h.host = old.host AND h.address = old.address AND h.port = old.port;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
REVOKE ALL ON FUNCTION ledger.forget_host_scans FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.forget_host_scans TO zegel_admin;
