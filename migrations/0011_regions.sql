-- What several regions need: keys that a member can be asked for while the control shard has no leader, and leases that a new leader
-- restarts at their own length.

-- The replay-tag keys of a tenant that are there already: today's first. Reads only, so a member answers too; `control.replay_keys`
-- makes today's at the leader when it is not there.
CREATE FUNCTION control.known_replay_keys(of_tenant text, today date)
    RETURNS TABLE (day date, key bytea) LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = control, pg_temp AS $$
    SELECT k.day, k.key FROM control.replay_key k
    WHERE k.tenant = of_tenant AND k.day IN (today, today - 1) ORDER BY k.day DESC
$$;
REVOKE ALL ON FUNCTION control.known_replay_keys FROM PUBLIC;
GRANT EXECUTE ON FUNCTION control.known_replay_keys TO zegel_edge;

-- How long the worker's heartbeat is good for.
ALTER TABLE ledger.worker_heartbeat ADD COLUMN lease interval NOT NULL DEFAULT interval '15 seconds';

CREATE OR REPLACE FUNCTION ledger.current_incarnation() RETURNS uuid LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    line int := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int;
    found uuid;
BEGIN
    SELECT i.id INTO found FROM ledger.incarnation i WHERE i.timeline = line;
    IF found IS NULL THEN
        INSERT INTO ledger.incarnation (id, timeline, first_xid)
            VALUES (gen_random_uuid(), line, pg_current_xact_id()) ON CONFLICT (timeline) DO NOTHING;
        SELECT i.id INTO found FROM ledger.incarnation i WHERE i.timeline = line;
        -- Leases were counted on the clock of a server that is gone. Those that were given up stay so.
        UPDATE ledger.worker_heartbeat SET lease_until = clock_timestamp() + lease WHERE lease_until > '-infinity';
    END IF;
    RETURN found;
END $$;
