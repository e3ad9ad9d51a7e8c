// Mutates the files of a corpus and hands them to a parser for a while. Inputs that end in a way not seen before are
// mutated in turn, so that the mutants reach deeper than the corpus. Run for long by `deploy/fuzz`.
//
// ZEGEL_FUZZ_SECONDS: how long, for each parser; ZEGEL_FUZZ_PARSER: only this one; ZEGEL_SEED: the seed that a run
// printed; ZEGEL_FUZZ_KEEP: adds to the corpus what ended in a new way.

import Foundation
import Lab
import Testing

/// One run over one corpus.
struct Fuzzing {
    private static let environment = ProcessInfo.processInfo.environment
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Corpus")

    /// Whether this parser is to be run.
    static func includes(_ parser: String) -> Bool {
        environment["ZEGEL_FUZZ_PARSER"].map { $0 == parser } ?? true
    }

    private let parser: String
    private let seed: UInt64
    private var generator: SplitMix
    private var pool: [[UInt8]]

    /// Reads the corpus of a parser.
    init(_ parser: String) throws {
        self.parser = parser
        seed =
            Self.environment["ZEGEL_SEED"].flatMap(UInt64.init)
            ?? UInt64.random(in: 0...UInt64.max)
        generator = SplitMix(seed)
        let folder = Self.folder.appending(path: parser)
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        pool = try names.map { Array(try Data(contentsOf: folder.appending(path: $0))) }
        #expect(!pool.isEmpty)
    }

    /// Runs a parser on its corpus and on mutants of it.
    ///
    /// - Parameter parse: says in a word how the input ended; throws when something that always holds did not.
    mutating func run(_ parse: ([UInt8], inout SplitMix) throws -> String) {
        let seconds = Self.environment["ZEGEL_FUZZ_SECONDS"].flatMap(Double.init) ?? 0.15
        let until = ContinuousClock.now + .seconds(seconds)
        var ends: Set<String> = []
        var count = 0
        func check(_ input: [UInt8], _ isSeed: Bool) -> Bool {
            count += 1
            do {
                guard ends.insert(try parse(input, &generator)).inserted else { return true }
                if !isSeed { keep(input) }
                return true
            } catch {
                let hex = input.map { String(0x100 + Int($0), radix: 16).dropFirst() }.joined()
                Issue.record("\(parser), seed \(seed), input \(count): \(error)\n\(hex)")
                return false
            }
        }
        print("fuzzing \(parser), seed \(seed)")
        for input in pool where !check(input, true) { return }
        while ContinuousClock.now < until {
            let input = mutant()
            let known = ends.count
            guard check(input, false) else { return }
            if ends.count > known, pool.count < 4096 { pool.append(input) }
        }
        print("fuzzed \(parser): \(count) inputs, \(ends.count) ends")
    }

    private func keep(_ input: [UInt8]) {
        guard Self.environment["ZEGEL_FUZZ_KEEP"] != nil else { return }
        let digest = input.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        let name = "found-" + String(digest, radix: 16)
        try? Data(input).write(to: Self.folder.appending(path: parser).appending(path: name))
    }

    private mutating func mutant() -> [UInt8] {
        var input = pool.randomElement(using: &generator) ?? []
        for _ in 0..<Int.random(in: 1...6, using: &generator) { mutate(&input) }
        return Array(input.prefix(70_000))
    }

    private mutating func mutate(_ input: inout [UInt8]) {
        let place = Int.random(in: 0...input.count, using: &generator)
        let end = min(input.count, place + Int.random(in: 0...16, using: &generator))
        switch Int.random(in: 0..<10, using: &generator) {
        case 0: if place < input.count { input[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator) }
        case 1: if place < input.count { input[place] = UInt8.random(in: 0...255, using: &generator) }
        case 2: if place < input.count { input[place] = Self.telling.randomElement(using: &generator) ?? 0 }
        case 3: input.removeSubrange(place..<end)
        case 4: input.insert(contentsOf: input[place..<end], at: place)
        case 5: input.insert(Self.telling.randomElement(using: &generator) ?? 0, at: place)
        case 6: input.removeSubrange(place...)
        case 7:
            // Another input from here on.
            let other = pool.randomElement(using: &generator) ?? []
            let from = Int.random(in: 0...other.count, using: &generator)
            input.replaceSubrange(place..., with: other[from...])
        case 8:
            // A length.
            guard place + 2 <= input.count else { return }
            let number =
                UInt16.random(in: 0...UInt16.max, using: &generator)
                >> UInt16.random(in: 0..<16, using: &generator)
            (input[place], input[place + 1]) = (UInt8(number >> 8), UInt8(number & 0xff))
        default:
            // Much of the same.
            let byte = place < input.count ? input[place] : 0
            let count = 1 << Int.random(in: 0..<11, using: &generator)
            input.insert(contentsOf: repeatElement(byte, count: count), at: place)
        }
    }

    /// Octets at which grammars turn.
    private static let telling: [UInt8] = Array("\0\t\n\r .*:;=-_|09azAZ\\".utf8) + [0x7f, 0x80, 0xc0, 0xff]
}
