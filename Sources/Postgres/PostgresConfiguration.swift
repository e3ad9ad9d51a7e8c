// How one connection to the server is made: conninfo of libpq, and the limits that keep a wait on it bounded.

/// Where and how to connect. The conninfo is libpq's own, so several hosts with `target_session_attrs` work.
public struct PostgresConfiguration: Sendable {
    /// libpq conninfo: `host=… port=… dbname=… user=…` or a `postgresql://` URI. Its values win over the rest of this type.
    public var conninfo: String
    /// Shown in `pg_stat_activity`.
    public var applicationName: String
    /// Limit for each host of the conninfo; libpq rounds up to whole seconds, with 2 as the least.
    public var connectTimeout: Duration
    /// Keywords of libpq that win over the conninfo: another host of the same cluster, for instance.
    public var overrides: [(keyword: String, value: String)] = []
    /// Limit for a `perform` that names none. A longer piece of work (a migration) says so itself.
    public var defaultDeadline: Duration

    /// Makes a configuration.
    /// - Parameters:
    ///   - conninfo: libpq conninfo or URI.
    ///   - applicationName: shown in `pg_stat_activity`.
    ///   - connectTimeout: limit for each host.
    public init(
        _ conninfo: String, applicationName: String = "zegel", connectTimeout: Duration = .seconds(5)
    ) {
        self.conninfo = conninfo
        self.applicationName = applicationName
        self.connectTimeout = connectTimeout
        self.defaultDeadline = .seconds(120)
    }

    /// Keywords in libpq's order of precedence: what stands before `dbname` is a default that the conninfo may replace.
    var keywords: [(String, String)] {
        let seconds = max(2, Int((connectTimeout / .seconds(1)).rounded(.up)))
        return [
            ("fallback_application_name", applicationName),
            ("connect_timeout", String(seconds)),
            // A peer that is gone is noticed in about 25 s when idle, in 15 s when data is unacknowledged.
            ("keepalives", "1"),
            ("keepalives_idle", "10"),
            ("keepalives_interval", "5"),
            ("keepalives_count", "3"),
            ("tcp_user_timeout", "15000"),
            ("dbname", conninfo),
            ("client_encoding", "UTF8"),
        ] + overrides.map { ($0.keyword, $0.value) }
    }
}
