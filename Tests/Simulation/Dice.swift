// Chance that a printed seed brings back: SplitMix64, and the few questions that a history asks of it.

/// A seeded generator.
public struct Dice: RandomNumberGenerator, Sendable {
    private var state: UInt64

    /// The same seed throws the same.
    public init(seed: UInt64) { state = seed }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var bits = state
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        return bits ^ (bits >> 31)
    }

    /// A number below `bound`, which is at least 1.
    public mutating func below(_ bound: Int) -> Int {
        Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(max(1, bound))).high)
    }

    /// Whether something of so many in a thousand happens.
    public mutating func happens(_ perThousand: Int) -> Bool { below(1000) < perThousand }

    /// A number of a range.
    public mutating func within(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + below(range.upperBound - range.lowerBound + 1)
    }

    /// A time of a range of milliseconds, in ticks.
    public mutating func milliseconds(_ range: ClosedRange<Int>) -> Ticks {
        Ticks(range.lowerBound) * 1000 + Ticks(below((range.upperBound - range.lowerBound) * 1000 + 1))
    }
}
