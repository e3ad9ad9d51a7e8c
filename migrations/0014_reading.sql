-- What readers rely on: where a new timeline begins in the feed, and how old the control schema is that a member shows.

-- This timeline's incarnation, written by every node on a connection to a new leader before anything else. Readers from before go back
-- to first_xid: the oldest transaction that could run when it was written, so that nothing of this timeline lies before it.
CREATE OR REPLACE FUNCTION ledger.current_incarnation() RETURNS uuid LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    line int := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int;
    found uuid;
BEGIN
    SELECT i.id INTO found FROM ledger.incarnation i WHERE i.timeline = line;
    IF found IS NULL THEN
        INSERT INTO ledger.incarnation (id, timeline, first_xid)
            VALUES (gen_random_uuid(), line, pg_snapshot_xmin(pg_current_snapshot()))
            ON CONFLICT (timeline) DO NOTHING;
        SELECT i.id INTO found FROM ledger.incarnation i WHERE i.timeline = line;
        -- Leases were counted on the clock of a server that is gone. Those that were given up stay so.
        UPDATE ledger.worker_heartbeat SET lease_until = clock_timestamp() + lease WHERE lease_until > '-infinity';
    END IF;
    RETURN found;
END $$;

-- The leader of the first shard lives: at most one row version every five seconds, whoever calls and how often.
CREATE FUNCTION control.beat() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = control, pg_temp AS $$
    UPDATE control.version SET heartbeat_at = clock_timestamp()
    WHERE heartbeat_at < clock_timestamp() - interval '5 seconds'
$$;
REVOKE ALL ON FUNCTION control.beat FROM PUBLIC;
GRANT EXECUTE ON FUNCTION control.beat TO zegel_edge;
