// Where a pool's connections lead, when that changes while it runs.

/// Whom to connect to, as of a moment.
public struct PostgresDestination: Sendable {
    /// Where and how.
    public var configuration: PostgresConfiguration
    /// The route's count of changes then.
    public var epoch: Int

    /// A destination.
    public init(_ configuration: PostgresConfiguration, epoch: Int = 0) {
        self.configuration = configuration
        self.epoch = epoch
    }
}

/// Decides where a pool connects, and which of its connections still lead there.
public protocol PostgresRoute: Sendable {
    /// Where to connect now; asked before each attempt.
    /// - Throws: `PostgresError`, transient when a later attempt may succeed.
    func destination() throws(PostgresError) -> PostgresDestination

    /// Looks at a fresh connection, on its thread, before anyone gets it.
    /// - Returns: the epoch that it belongs to.
    /// - Throws: when it does not lead where it should; transient when another may.
    func admit(_ session: PostgresSession, of destination: PostgresDestination) throws -> Int

    /// A connection could not be made, or broke: whoever knows better may look again.
    func failed()

    /// Whether connections of an epoch still lead where they should.
    func isCurrent(_ epoch: Int) -> Bool
}

/// A route that never changes.
struct FixedRoute: PostgresRoute {
    let configuration: PostgresConfiguration
    let onConnect: PostgresPool.OnConnect?

    func destination() -> PostgresDestination { PostgresDestination(configuration) }

    func admit(_ session: PostgresSession, of destination: PostgresDestination) throws -> Int {
        try onConnect?(session)
        return destination.epoch
    }

    func failed() {}

    func isCurrent(_ epoch: Int) -> Bool { true }
}
