import Foundation

/// What a client may be told of what it handed over (design §7).
public enum IntakeAnswer: Sendable, Equatable {
    /// Durable: 250 with this id.
    case accepted(UUID)
    /// The same bytes were taken before, durably: 250 with the first one's id.
    case replayed(UUID)
    /// Frames of an upload are durable: go on.
    case stored
    /// Not taken: 451, the client shall repeat.
    case tryAgain(reason: String)
    /// No room (queue or disk full): 452.
    case insufficientStorage
}
