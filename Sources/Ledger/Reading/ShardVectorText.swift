// One place a shard as opaque URL-safe text: what a feed cursor and a position are written in.

import Crypto
import Foundation

/// URL-safe base64 without padding of version 1 ‖ count 1 ‖ per shard, sorted by name (length 1 ‖ name ‖ place) ‖ the first 4 octets of
/// SHA-256 over all before. The check finds typing and cutting; it is no signature.
package struct ShardVectorText: Sendable {
    /// The text is none that was written.
    package struct Malformed: Error {}

    private static let checkCount = 4
    /// Longest text that is looked at.
    package static let lengthLimit = 16_384

    /// What it is of: the first octet.
    let version: UInt8
    /// Octets of one place.
    let placeCount: Int

    /// A form of text.
    package init(version: UInt8, placeCount: Int) { (self.version, self.placeCount) = (version, placeCount) }

    /// Octets of each place by the name of its shard; empty text has none.
    package func read(_ text: String) throws(Malformed) -> [String: [UInt8]] {
        if text.isEmpty { return [:] }
        guard text.utf8.count <= Self.lengthLimit, let bytes = Self.decode(text),
            bytes.count > Self.checkCount,
            Self.check(bytes.dropLast(Self.checkCount)).elementsEqual(bytes.suffix(Self.checkCount))
        else { throw Malformed() }
        var rest = bytes.dropLast(Self.checkCount)
        guard rest.popFirst() == version, let count = rest.popFirst() else { throw Malformed() }
        var places: [String: [UInt8]] = [:]
        var last = ""
        for _ in 0..<count {
            guard let length = rest.popFirst(), length > 0, rest.count >= Int(length) + placeCount,
                let name = String(validating: rest.prefix(Int(length)), as: UTF8.self), name > last
            else { throw Malformed() }
            rest = rest.dropFirst(Int(length))
            places[name] = Array(rest.prefix(placeCount))
            rest = rest.dropFirst(placeCount)
            last = name
        }
        guard rest.isEmpty else { throw Malformed() }
        return places
    }

    /// The text of places: letters, digits, `-` and `_`.
    package func write(_ places: [String: [UInt8]]) -> String {
        var bytes: [UInt8] = [version, UInt8(truncatingIfNeeded: places.count)]
        bytes.reserveCapacity(places.count * (placeCount + 8) + 8)
        for (name, place) in places.sorted(by: { $0.key < $1.key }) {
            bytes.append(UInt8(truncatingIfNeeded: name.utf8.count))
            bytes.append(contentsOf: name.utf8)
            bytes.append(contentsOf: place)
        }
        bytes.append(contentsOf: Self.check(bytes))
        return Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_")
            .replacing("=", with: "")
    }

    private static func check(_ bytes: some Sequence<UInt8>) -> [UInt8] {
        Array(SHA256.hash(data: Data(bytes)).prefix(checkCount))
    }

    private static func decode(_ text: String) -> [UInt8]? {
        guard text.utf8.allSatisfy({ isURLSafe($0) }) else { return nil }
        let padding = String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        let standard = text.replacing("-", with: "+").replacing("_", with: "/") + padding
        return Data(base64Encoded: standard).map { Array($0) }
    }

    private static func isURLSafe(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }

    package static func uuid(_ bytes: ArraySlice<UInt8>) -> UUID {
        var uuid = UUID().uuid
        withUnsafeMutableBytes(of: &uuid) { $0.copyBytes(from: bytes) }
        return UUID(uuid: uuid)
    }

    package static func octets(_ uuid: UUID) -> [UInt8] { withUnsafeBytes(of: uuid.uuid) { Array($0) } }

    package static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    package static func octets(_ number: UInt64) -> [UInt8] {
        withUnsafeBytes(of: number.bigEndian) { Array($0) }
    }
}
