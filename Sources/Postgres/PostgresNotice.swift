// What the server says beside its results: warnings, and what they mean for a commit.

/// A notice or warning of the server.
public struct PostgresNotice: Sendable, Equatable {
    /// Not localised: `WARNING`, `NOTICE`, `INFO`, …
    public var severity: String
    /// SQLSTATE.
    public var sqlState: String
    /// Primary message.
    public var message: String
    /// The server's C function that spoke; the only unlocalised sign of a broken wait for the quorum.
    public var sourceFunction: String

    /// The wait of a commit for its quorum was broken off: the row is visible and may yet be lost with this leader.
    var breaksQuorumWait: Bool { sourceFunction == "SyncRepWaitForLSN" }

    /// Whether this, on a COMMIT, means that the commit cannot be called durable.
    var doubtsCommit: Bool {
        breaksQuorumWait || (severity == "WARNING" && (sqlState == "01000" || sqlState == "57P01"))
    }
}

/// How a commit that the server answered with success ended.
public enum PostgresCommitOutcome: Sendable, Equatable {
    /// Success without a warning.
    case durable
    /// Success with a WARNING: visible, and not durable. The text is the server's.
    case warned(String)

    init(_ notices: [PostgresNotice]) {
        if let doubt = notices.first(where: \.doubtsCommit) {
            self = .warned("\(doubt.sqlState) \(doubt.message)")
        } else {
            self = .durable
        }
    }
}

/// A NOTIFY that arrived.
public struct PostgresNotification: Sendable, Equatable {
    /// Channel.
    public var channel: String
    /// Payload, empty if none was given.
    public var payload: String
    /// Process id of the server process that sent it.
    public var processID: Int32
}
