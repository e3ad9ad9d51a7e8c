-- What an edge could do beyond its work: private tables in which to gather rows, half of a verifier that only SCRAM's server side
-- needs, and events that tell of what workers, operators and the schema itself decide.
DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $$;

-- PLAIN and LOGIN compare the stored key (RFC 5802 §3). With the server key one could pose as this server.
REVOKE SELECT ON control.credential FROM zegel_edge;
GRANT SELECT (id, tenant, username, salt, iterations, stored_key, revoked_at) ON control.credential TO zegel_edge;

CREATE FUNCTION ledger.forbid_event() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'an edge tells what it accepted and rejected, not %', NEW.kind USING ERRCODE = '42501';
END $$;
REVOKE ALL ON FUNCTION ledger.forbid_event FROM PUBLIC;
-- After, not before: COPY writes many rows at once only into a table without BEFORE triggers. The condition is all that a row costs.
-- `ledger.withdraw` writes with its owner's rights.
CREATE TRIGGER edge_events AFTER INSERT ON ledger.event FOR EACH ROW
    WHEN (current_user = 'zegel_edge' AND NEW.kind NOT IN ('accepted', 'rejected'))
    EXECUTE FUNCTION ledger.forbid_event();
