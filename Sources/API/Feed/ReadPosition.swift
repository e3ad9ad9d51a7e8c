// How far a client has seen the shards, as the opaque text of the header `Zegel-Position`: whoever brings it is never shown less.

import Foundation
import Hummingbird
import Ledger

/// A vector of places in the shards' logs.
///
/// Text: a `ShardVectorText` of version 2; each place is incarnation 16 ‖ lsn 8. It opens nothing and names no data.
struct ReadPosition: Sendable, Hashable {
    /// The header that brings it and that takes it back.
    static let header = "Zegel-Position"
    /// The text is no position that this version wrote.
    struct Malformed: Error, Equatable {}

    /// The place in each shard by the shard's name.
    var positions: [String: ShardPosition] = [:]

    init() {}

    private static let form = ShardVectorText(version: 2, placeCount: 24)

    /// Reads `text`; empty text is nowhere.
    init(_ text: String) throws(Malformed) {
        let places: [String: [UInt8]]
        do { places = try Self.form.read(text) } catch { throw Malformed() }
        positions = places.mapValues { place in
            ShardPosition(
                incarnation: ShardVectorText.uuid(place[0..<16]), lsn: ShardVectorText.number(place[16..<24]))
        }
    }

    /// The position that a request brings, of these shards.
    /// - Throws: `Problem` 400.
    init(_ headers: HTTPFields, shards: [String]) throws {
        self.init()
        guard let name = HTTPFields.Element.Name(Self.header), let text = headers[name] else { return }
        do { try self.init(text) } catch {
            throw Problem.badRequest(
                "'\(Self.header)' is no position that this API wrote; leave it out to read what is there.")
        }
        guard positions.isEmpty || shards.contains(where: { positions[$0] != nil }) else {
            throw Problem.foreignPosition
        }
    }

    /// Letters, digits, `-` and `_`.
    var text: String {
        Self.form.write(
            positions.mapValues {
                ShardVectorText.octets($0.incarnation) + ShardVectorText.octets($0.lsn)
            })
    }

    /// The client has seen this of a shard too. A member that answered was as far as it had to be, so the new place is the later one.
    mutating func see(_ shard: String, _ place: ShardPosition?) {
        if let place { positions[shard] = place }
    }
}
