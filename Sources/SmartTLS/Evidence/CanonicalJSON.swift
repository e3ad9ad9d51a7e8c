// One way to write a value down, so that equal values have equal octets and one digest: JSON with sorted names and no space, as
// RFC 8785 has it for values that hold no fractions.

import Crypto
import Foundation

/// Writes and reads values in canonical form.
enum CanonicalJSON {
    /// The octets of a value.
    static func encode(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(value))
    }

    /// A value from its octets; they must be exactly those that it is written as.
    static func decode<Value: Codable>(_ type: Value.Type, _ octets: [UInt8]) throws -> Value {
        let value = try JSONDecoder().decode(type, from: Data(octets))
        guard try encode(value) == octets else {
            throw EvidenceError(.altered, "it is not in canonical form")
        }
        return value
    }

    /// SHA-256 in lower-case hexadecimal.
    static func digest(_ octets: [UInt8]) -> String { hexadecimal(SHA256.hash(data: octets)) }

    /// Octets in lower-case hexadecimal.
    static func hexadecimal(_ octets: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(
            decoding: octets.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}

/// Why evidence does not hold, or cannot be read.
public struct EvidenceError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Kinds of failures.
    public enum Code: String, Sendable, Hashable, Codable {
        /// It is not evidence at all, or of a format that is not known.
        case unreadable
        /// It is not what was written.
        case altered
        /// Something that it refers to is not in it.
        case incomplete
        /// Judged again it leads to something else.
        case contradicted
    }

    /// The kind.
    public let code: Code
    /// What was found, in words.
    public let reason: String

    /// A failure.
    init(_ code: Code, _ reason: String) {
        self.code = code
        self.reason = reason
    }

    /// Kind and reason.
    public var description: String { "\(code.rawValue): \(reason)" }
}
