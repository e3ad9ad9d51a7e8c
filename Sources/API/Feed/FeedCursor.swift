// Where a reader of the events feed stands, as opaque URL-safe text (design §5).

import Crypto
import Foundation
import Ledger

/// A vector of places, one per shard: a reader that comes back with it, to whichever region, misses nothing.
///
/// Text: URL-safe base64 without padding of version 1 ‖ count 1 ‖ per shard, sorted by name (length 1 ‖ name ‖ incarnation 16 ‖
/// arrived 8 ‖ id 16) ‖ the first 4 octets of SHA-256 over all before. The check finds typing and cutting; it is no
/// signature, and a cursor opens nothing.
public struct FeedCursor: Sendable, Hashable {
    /// The text is no cursor that this version wrote.
    public struct Malformed: Error, Sendable, Equatable {}

    /// The place in each shard by the shard's name; a shard without one is read from its start.
    public var positions: [String: FeedPosition]

    /// The start of the feed, or a given place.
    public init(_ positions: [String: FeedPosition] = [:]) { self.positions = positions }

    private static let version: UInt8 = 1
    private static let checkCount = 4
    private static let placeCount = 40

    /// Reads `text`; empty text is the start of the feed.
    ///
    /// - Throws: `Malformed` for anything that `text` never returned.
    public init(_ text: String) throws(Malformed) {
        positions = [:]
        if text.isEmpty { return }
        guard text.utf8.count <= 16_384, let bytes = Self.decode(text), bytes.count > Self.checkCount,
            Self.check(bytes.dropLast(Self.checkCount)).elementsEqual(bytes.suffix(Self.checkCount))
        else { throw Malformed() }
        var rest = bytes.dropLast(Self.checkCount)
        guard rest.popFirst() == Self.version, let count = rest.popFirst() else { throw Malformed() }
        var last = ""
        for _ in 0..<count {
            guard let length = rest.popFirst(), length > 0, rest.count >= Int(length) + Self.placeCount,
                let name = String(validating: rest.prefix(Int(length)), as: UTF8.self), name > last
            else { throw Malformed() }
            rest = rest.dropFirst(Int(length))
            let place = Array(rest.prefix(Self.placeCount))
            rest = rest.dropFirst(Self.placeCount)
            positions[name] = FeedPosition(
                incarnation: Self.uuid(place[0..<16]),
                arrived: place[16..<24].reduce(0) { $0 << 8 | UInt64($1) },
                id: Self.uuid(place[24..<40]))
            last = name
        }
        guard rest.isEmpty else { throw Malformed() }
    }

    /// The text of this cursor: letters, digits, `-` and `_`.
    public var text: String {
        var bytes: [UInt8] = [Self.version, UInt8(truncatingIfNeeded: positions.count)]
        bytes.reserveCapacity(positions.count * 48 + 8)
        for (name, place) in positions.sorted(by: { $0.key < $1.key }) {
            bytes.append(UInt8(truncatingIfNeeded: name.utf8.count))
            bytes.append(contentsOf: name.utf8)
            withUnsafeBytes(of: place.incarnation.uuid) { bytes.append(contentsOf: $0) }
            withUnsafeBytes(of: place.arrived.bigEndian) { bytes.append(contentsOf: $0) }
            withUnsafeBytes(of: place.id.uuid) { bytes.append(contentsOf: $0) }
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

    private static func uuid(_ bytes: ArraySlice<UInt8>) -> UUID {
        var uuid = UUID().uuid
        withUnsafeMutableBytes(of: &uuid) { $0.copyBytes(from: bytes) }
        return UUID(uuid: uuid)
    }
}
