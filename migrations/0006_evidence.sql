-- What deliveries and refusals rest on. A judgement is of one connection, so that all messages that went over it share it; a
-- certificate is there once. Neither names a person: recipient domains, hosts, DNS answers, certificates.
CREATE TABLE ledger.judgement (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),  -- SHA-256 of body
    made_at timestamptz NOT NULL,
    body bytea NOT NULL                                          -- canonical JSON
);
CREATE INDEX judgement_made ON ledger.judgement (made_at);
CREATE TABLE ledger.judgement_certificate (
    judgement bytea NOT NULL REFERENCES ledger.judgement ON DELETE CASCADE,
    certificate bytea NOT NULL,
    PRIMARY KEY (judgement, certificate)
);
CREATE INDEX judgement_of_certificate ON ledger.judgement_certificate (certificate);
CREATE TABLE ledger.certificate (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),  -- SHA-256 of der
    der bytea NOT NULL
);

GRANT SELECT, INSERT ON ledger.judgement, ledger.judgement_certificate, ledger.certificate TO zegel_worker;
GRANT SELECT ON ledger.judgement, ledger.judgement_certificate, ledger.certificate TO zegel_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.judgement, ledger.judgement_certificate, ledger.certificate TO zegel_admin;

-- Judgements from before a day, whose events are dropped by then, and certificates that no judgement names any more. Answers how
-- many judgements went. A judgement is used for at most minutes after it was made.
CREATE FUNCTION ledger.forget_judgements(before date, at_most int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    gone bytea[];
    orphans bytea[];
BEGIN
    SELECT array_agg(j.digest) INTO gone FROM (
        SELECT digest FROM ledger.judgement WHERE made_at < (before - 1)::timestamp AT TIME ZONE 'UTC'
        LIMIT at_most FOR UPDATE SKIP LOCKED) j;
    IF gone IS NULL THEN RETURN 0; END IF;
    SELECT array_agg(DISTINCT certificate) INTO orphans FROM ledger.judgement_certificate WHERE judgement = ANY (gone);
    DELETE FROM ledger.judgement WHERE digest = ANY (gone);
    DELETE FROM ledger.certificate c WHERE c.digest = ANY (orphans)
        AND NOT EXISTS (SELECT 1 FROM ledger.judgement_certificate u WHERE u.certificate = c.digest);
    RETURN cardinality(gone);
END $$;
REVOKE ALL ON FUNCTION ledger.forget_judgements FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.forget_judgements TO zegel_admin;
