// Where a reader of the events feed stands, as opaque URL-safe text (design §5).

import Foundation

/// A vector of places, one per shard: a reader that comes back with it, to whichever region, misses nothing.
///
/// Text: a `ShardVectorText` of version 1; each place is incarnation 16 ‖ arrived 8 ‖ id 16. A cursor opens nothing.
public struct FeedCursor: Sendable, Hashable {
    /// The text is no cursor that this version wrote.
    public struct Malformed: Error, Sendable, Equatable {}

    /// The place in each shard by the shard's name; a shard without one is read from its start.
    public var positions: [String: FeedPosition]

    /// The start of the feed, or a given place.
    public init(_ positions: [String: FeedPosition] = [:]) { self.positions = positions }

    private static let form = ShardVectorText(version: 1, placeCount: 40)

    /// Reads `text`; empty text is the start of the feed.
    ///
    /// - Throws: `Malformed` for anything that `text` never returned.
    public init(_ text: String) throws(Malformed) {
        let places: [String: [UInt8]]
        do { places = try Self.form.read(text) } catch { throw Malformed() }
        positions = places.mapValues { place in
            FeedPosition(
                incarnation: ShardVectorText.uuid(place[0..<16]),
                arrived: ShardVectorText.number(place[16..<24]), id: ShardVectorText.uuid(place[24..<40]))
        }
    }

    /// The text of this cursor: letters, digits, `-` and `_`.
    public var text: String {
        Self.form.write(
            positions.mapValues { place in
                ShardVectorText.octets(place.incarnation) + ShardVectorText.octets(place.arrived)
                    + ShardVectorText.octets(place.id)
            })
    }
}
