// The names under which the sealed fields of a message are bound: whoever seals and whoever opens must say the same.

import Foundation

extension SealedField {
    /// The message's envelope.
    public static let envelope = "envelope"

    /// The address of the recipient with this number.
    public static func address(_ number: Int32) -> String { "address/\(number)" }

    /// The detail of an event: its id in lower case, as RFC 9562 §4 writes it.
    public static func event(_ id: UUID) -> String { "event/\(id.lowercasedText)" }
}
