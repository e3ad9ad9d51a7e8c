import Foundation

/// Domain labels in other scripts as DNS knows them: U-label to A-label (RFC 5890, RFC 5891), Punycode (RFC 3492).
///
/// The mapping is lower case and normalisation form C, then the permitted categories of letters, marks and digits:
/// the heart of IDNA 2008 without its context rules, which the registries enforce.
enum InternationalLabel {
    /// The A-label of one label, or `nil` when it is not a label that could be registered.
    static func ascii(_ label: String) -> String? {
        let mapped = label.lowercased().precomposedStringWithCanonicalMapping
        let scalars = Array(mapped.unicodeScalars)
        guard let first = scalars.first, let last = scalars.last, first != "-", last != "-" else {
            return nil
        }
        if first.properties.generalCategory.isMark { return nil }
        for scalar in scalars where !scalar.isPermittedInLabel { return nil }
        if scalars.allSatisfy(\.isASCII) { return mapped.utf8.count <= 63 ? mapped : nil }
        guard let encoded = punycode(scalars) else { return nil }
        let ace = "xn--" + encoded
        return ace.utf8.count <= 63 ? ace : nil
    }

    /// RFC 3492 §6.3, with the parameters of §5.
    private static func punycode(_ scalars: [Unicode.Scalar]) -> String? {
        var output = scalars.filter(\.isASCII).map { UInt8(truncatingIfNeeded: $0.value) }
        let basicCount = output.count
        var handled = basicCount
        if basicCount > 0 { output.append(ASCII.hyphen) }
        var codePoint: UInt32 = 128
        var delta = 0
        var bias = 72
        while handled < scalars.count {
            guard let smallest = scalars.lazy.map(\.value).filter({ $0 >= codePoint }).min() else {
                return nil
            }
            delta += Int(smallest - codePoint) * (handled + 1)
            codePoint = smallest
            for scalar in scalars {
                if scalar.value < codePoint { delta += 1 }
                guard scalar.value == codePoint else { continue }
                var rest = delta
                var step = 36
                while true {
                    let threshold = step <= bias ? 1 : (step >= bias + 26 ? 26 : step - bias)
                    if rest < threshold { break }
                    output.append(digit(threshold + (rest - threshold) % (36 - threshold)))
                    rest = (rest - threshold) / (36 - threshold)
                    step += 36
                }
                output.append(digit(rest))
                bias = adapted(delta, count: handled + 1, isFirst: handled == basicCount)
                delta = 0
                handled += 1
            }
            delta += 1
            codePoint += 1
            if output.count > 256 { return nil }
        }
        return String(decoding: output, as: UTF8.self)
    }

    private static func digit(_ value: Int) -> UInt8 {
        UInt8(value < 26 ? 0x61 + value : 0x30 + value - 26)
    }

    private static func adapted(_ delta: Int, count: Int, isFirst: Bool) -> Int {
        var delta = isFirst ? delta / 700 : delta / 2
        delta += delta / count
        var steps = 0
        while delta > 455 {
            delta /= 35
            steps += 36
        }
        return steps + 36 * delta / (delta + 38)
    }
}

extension Unicode.Scalar {
    fileprivate var isPermittedInLabel: Bool {
        if isASCII {
            return self == "-" || properties.isAlphabetic || ("0"..."9").contains(self)
        }
        switch properties.generalCategory {
        case .lowercaseLetter, .otherLetter, .modifierLetter, .nonspacingMark, .spacingMark, .decimalNumber:
            return true
        default:
            return self == "\u{00B7}" || self == "\u{30FB}" || self == "\u{200C}" || self == "\u{200D}"
        }
    }
}

extension Unicode.GeneralCategory {
    fileprivate var isMark: Bool { self == .nonspacingMark || self == .spacingMark || self == .enclosingMark }
}
