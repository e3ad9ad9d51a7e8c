// What every PostgreSQL of a ledger is told, alone or under Patroni: durable, tuned for many small commits, and silent on what
// statements carry.

/// One parameter of `postgresql.conf`.
struct PostgresParameter: Sendable, Equatable {
    var name: String
    var value: String

    init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }

    /// As a line of `postgresql.conf`.
    var line: String { "\(name) = '\(value.replacing("'", with: "''"))'" }
}

extension PostgresParameter {
    /// What holds for every member.
    static let common: [PostgresParameter] = [
        .init("password_encryption", "scram-sha-256"),
        .init("search_path", "ledger, control, public"),
        .init("shared_buffers", "256MB"),
        .init("maintenance_work_mem", "128MB"),
        .init("effective_io_concurrency", "100"),
        .init("jit", "off"),
        // What was answered 250 is on disk.
        .init("fsync", "on"),
        .init("synchronous_commit", "on"),
        .init("full_page_writes", "on"),
        .init("wal_compression", "lz4"),
        .init("wal_buffers", "16MB"),
        .init("max_wal_size", "2GB"),
        .init("min_wal_size", "256MB"),
        .init("checkpoint_timeout", "15min"),
        .init("checkpoint_completion_target", "0.9"),
        // Queue tables die fast.
        .init("autovacuum_naptime", "10s"),
        .init("autovacuum_vacuum_cost_delay", "1ms"),
        .init("timezone", "UTC"),
        .init("log_timezone", "UTC"),
        .init("lc_messages", "C.UTF-8"),
        .init("log_line_prefix", "%m [%p] %a "),
        // Neither statements nor their parameters nor the rows that they failed on.
        .init("log_statement", "none"),
        .init("log_min_error_statement", "panic"),
        .init("log_parameter_max_length", "0"),
        .init("log_parameter_max_length_on_error", "0"),
        .init("log_error_verbosity", "terse"),
        .init("log_checkpoints", "off"),
        // Always: what it does is told by the command alone, and that takes no restart.
        .init("archive_mode", "on"),
    ]

    /// What holds besides for a member of a replicated shard.
    static let replicated: [PostgresParameter] = [
        // A peer that is cut off is noticed before Patroni's ttl is over.
        .init("wal_sender_timeout", "10s"),
        .init("wal_receiver_timeout", "10s"),
        .init("wal_keep_size", "256MB"),
        // A member that stays away costs so much disk, and no more: it is made anew then.
        .init("max_slot_wal_keep_size", "8GB"),
        // Many members of one machine's cluster share its memory.
        .init("shared_buffers", "128MB"),
        .init("tcp_keepalives_idle", "10"),
        .init("tcp_keepalives_interval", "5"),
        .init("tcp_keepalives_count", "3"),
        .init("tcp_user_timeout", "15000"),
    ]

    /// What Patroni lets nobody set on one member alone.
    static let shared: [PostgresParameter] = [
        .init("wal_level", "replica"),
        .init("max_connections", "400"),
        .init("max_wal_senders", "10"),
        .init("max_replication_slots", "10"),
        .init("wal_log_hints", "on"),
    ]
}
