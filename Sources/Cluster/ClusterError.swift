// The one error of this target: what went wrong in a sentence that an operator can act on.

/// Why a cluster operation could not be done.
public struct ClusterError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Code: String, Sendable {
        /// The command or its options make no sense here.
        case usage
        /// A setting is not what it must be.
        case configuration
        /// Something that the machine must offer is missing: a program, a right, a free port.
        case environment
        /// A process could not be started or ended badly.
        case process
        /// A bound on waiting was reached.
        case timeout
        /// What lies in the cluster's folder cannot be read or is not what it must be.
        case state
        /// A node answered something else than it should.
        case answer
    }

    /// The kind of failure.
    public var code: Code
    /// One sentence, with the way out where there is one.
    public var message: String

    /// Makes an error of `code` that says `message`.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The sentence.
    public var description: String { message }
}
