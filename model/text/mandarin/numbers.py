"""Mandarin number expansion: quantities, dates, times, money, measures and codes to Han characters."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import cn2an

_DIGITS: Final = "零一二三四五六七八九"
_MAX_QUANTITY_DIGITS: Final = 16
_N: Final = r"\d+(?:\.\d+)?"
_TO_DIGITS: Final = str.maketrans("0123456789", _DIGITS)

# Longest first, so that "km" is not "k" and "m". "2" after a unit letter comes from folding compatibility squares.
_UNITS: Final = {
    "km/h": "公里每小时",
    "m/s": "米每秒",
    "km²": "平方公里",
    "km2": "平方公里",
    "m²": "平方米",
    "m2": "平方米",
    "cm²": "平方厘米",
    "cm2": "平方厘米",
    "mm²": "平方毫米",
    "mm2": "平方毫米",
    "m³": "立方米",
    "m3": "立方米",
    "cm³": "立方厘米",
    "cm3": "立方厘米",
    "km": "公里",
    "KM": "公里",
    "cm": "厘米",
    "CM": "厘米",
    "mm": "毫米",
    "MM": "毫米",
    "μm": "微米",
    "nm": "纳米",
    "m": "米",
    "kg": "公斤",
    "KG": "公斤",
    "Kg": "公斤",
    "mg": "毫克",
    "g": "克",
    "t": "吨",
    "ml": "毫升",
    "mL": "毫升",
    "ML": "毫升",
    "l": "升",
    "L": "升",
    "kWh": "千瓦时",
    "kW": "千瓦",
    "KW": "千瓦",
    "MW": "兆瓦",
    "mAh": "毫安时",
    "mA": "毫安",
    "V": "伏",
    "kHz": "千赫兹",
    "MHz": "兆赫兹",
    "GHz": "吉赫兹",
    "Hz": "赫兹",
    "dB": "分贝",
    "kPa": "千帕",
    "Pa": "帕",
    "kcal": "千卡",
    "cal": "卡",
    "ms": "毫秒",
    "min": "分钟",
    "s": "秒",
    "h": "小时",
    "°C": "摄氏度",
    "°F": "华氏度",
    "°": "度",
}
_UNIT_PATTERN: Final = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_CURRENCIES: Final = {
    "US$": "美元",
    "HK$": "港元",
    "$": "美元",
    "¥": "元",
    "€": "欧元",
    "£": "英镑",
    "₩": "韩元",
    "₽": "卢布",
    "฿": "泰铢",
    "₹": "卢比",
    "RMB": "元",
    "CNY": "元",
    "USD": "美元",
    "EUR": "欧元",
    "JPY": "日元",
    "HKD": "港元",
}
_CURRENCY_PATTERN: Final = "|".join(sorted(map(re.escape, _CURRENCIES), key=len, reverse=True))
# 2 before these is 两: counted nouns. Dates, floors, grades and ranks keep 二.
_COUNTED: Final = (
    r"个|只|条|张|本|件|位|名|块|种|次|天|年(?!级|代|初|底|末|前半)|周(?!年)|岁|米|斤|公斤|公里|厘米|小时|分钟|秒|点(?!\d(?!\d?分))|元|美元|"
    r"倍|家|人|瓶|杯|台|辆|匹|头|棵|朵|颗|粒|片|份|封|间|座|所|套|双|对|碗|把|支|枝|根|句|首|门|篇|段|场|顿|幅|部|架|艘|把|盒|箱|袋|包|吨|升|"
    r"克(?!拉)|毫升|毫米|平方|立方|口|亩|步|遍|趟|回(?!合)|下|分(?!之|店|公司)|道|项|批|伙|群|排|桌|盘|股|阵|样"
)
_CALLED: Final = (
    r"电话|手机|号码|热线|拨打|拨|致电|传真|座机|分机|密码|验证码|邮编|邮政编码|学号|工号|卡号|账号|帐号|编号|证号|单号|尾号|客服|QQ|qq|"
    r"微信|打(?=1[12][0-9](?!\d))"
)


def digits_one_by_one(text: str) -> str:
    """Return the name of each digit and drop everything else: "138-00" → 一三八零零. 1 is read 一, never 幺."""
    return "".join(character for character in text if character.isdecimal()).translate(_TO_DIGITS)


@lru_cache(maxsize=8192)
def quantity(number: str) -> str:
    """Return a number in ASCII digits, perhaps with decimals: "1.50" → 一点五零. Leading zeros make it a code."""
    whole, point, decimals = number.partition(".")
    if (len(whole) > 1 and whole[0] == "0") or len(whole) > _MAX_QUANTITY_DIGITS:
        spoken = digits_one_by_one(whole)
    else:
        spoken = cn2an.an2cn(whole or "0")
    return f"{spoken}点{digits_one_by_one(decimals)}" if point else spoken


def _date(match: re.Match[str]) -> str:
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if not (1 <= month <= 12 and 1 <= day <= 31 and year):
        return match.group()
    return f"{digits_one_by_one(match['year'])}年{quantity(str(month))}月{quantity(str(day))}日"


def _hour(hour: str) -> str:
    return "两" if int(hour) == 2 else quantity(str(int(hour)))


def _time(match: re.Match[str]) -> str:
    hour, minute, second = match["hour"], match["minute"], match["second"]
    if int(hour) > 24 or int(minute) > 59 or int(second or 0) > 59:
        return match.group()
    spoken = {"a": "上午", "p": "下午"}.get((match["half"] or "")[:1].lower(), "") + _hour(hour) + "点"
    if int(minute) or int(second or 0):
        spoken += ("零" if 0 < int(minute) < 10 else "") + quantity(str(int(minute))) + "分"
    if int(second or 0):
        spoken += ("零" if int(second) < 10 else "") + quantity(str(int(second))) + "秒"
    return spoken


def _money(match: re.Match[str]) -> str:
    currency = _CURRENCIES[match["sign"]]
    if match["range"]:
        return f"{quantity(match['number'])}到{quantity(match['range'])}{match['scale'] or ''}{currency}"
    return f"{_counted(match['number'], currency)}{match['scale'] or ''}{currency}"


def _counted(number: str, noun: str) -> str:
    return "两" if number == "2" and re.match(_COUNTED, noun) else quantity(number)


def _measure(match: re.Match[str]) -> str:
    noun = _UNITS[match["unit"]]
    return f"{_counted(match['number'], noun)}{noun}"


def _percent(match: re.Match[str]) -> str:
    part = "百分之" if match["sign"] == "%" else "千分之"
    lower = f"{part}{quantity(match['lower'])}到" if match["lower"] else ""
    return f"{lower}{part}{quantity(match['number'])}"


def _fraction(match: re.Match[str]) -> str:
    return f"{quantity(match[2])}分之{quantity(match[1])}"


def _read_attached(match: re.Match[str]) -> str:
    """Return digits that belong to a Latin name: a number up to 99 ("MP3", "F-16"), a code above ("G1234")."""
    digits = match[1]
    return (
        quantity(digits)
        if len(digits.partition(".")[0]) <= 2
        else digits_one_by_one(digits)
        if "." not in digits
        else quantity(digits)
    )


def _long_number(match: re.Match[str]) -> str:
    digits = match.group()
    return quantity(digits) if digits.endswith("0000") and digits[0] != "0" else digits_one_by_one(digits)


def _versions(match: re.Match[str]) -> str:
    return "点".join(map(digits_one_by_one, match.group().split(".")))


_ARITHMETIC: Final = {"+": "加", "*": "乘", "×": "乘", "x": "乘", "÷": "除以", "=": "等于"}
_Replacement = str | Callable[[re.Match[str]], str]
# Order matters: the most specific pattern first, the bare number last.
_RULES: Final[tuple[tuple[re.Pattern[str], _Replacement], ...]] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Telephone numbers and announced codes.
        (r"\+\d{1,3}[- ]?(?=\d{3}[- ]?\d{4})", lambda match: f"加{digits_one_by_one(match.group())}"),
        (r"(?<!\d)1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)", lambda match: digits_one_by_one(match.group())),
        (
            r"(?<![\d.])(?:\(0\d{2,3}\)|0\d{2,3})[- ]?\d{7,8}(?:-\d{1,5})?(?!\d)",
            lambda match: digits_one_by_one(match.group()),
        ),
        (r"(?<!\d)[48]00-\d{3,4}-?\d{3,4}(?!\d)", lambda match: digits_one_by_one(match.group())),
        (
            rf"((?:{_CALLED})(?:号码|号)?(?:就?是|为|:|：|:)?\s?)(\d(?:[\d]|[- ](?=\d))+)(?![\d.]|[个位次年月%])",
            lambda match: match[1] + digits_one_by_one(match[2]),
        ),
        (
            r"(?<![\d.])(?:100(?:86|10|00)|12306|12315|12345|12348)(?![\d.,]|[个元人年米])",
            lambda match: digits_one_by_one(match.group()),
        ),
        (r"(?<![\d.])\d+\.\d+\.\d+(?:\.\d+)*(?![\d])", lambda match: _date_or_version(match)),
        # Dates and years.
        (r"(?<!\d)(?P<year>\d{4})(?P<mark>[-/])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})(?!\d)", _date),
        (r"(?<!\d)(\d{4})(?=年代|级(?![\d]))", lambda match: digits_one_by_one(match[1])),
        (r"(?<!\d)(\d0)(?=后(?![面来天年]))", lambda match: digits_one_by_one(match[1])),
        (r"(?<!\d)(\d{3,4})(?=号?房间?|室|教室|路公交|路车|次列车|次航班)", lambda match: digits_one_by_one(match[1])),
        # Scores, sums and ranges.
        (
            r"(比分(?:是|为)?|以)\s?(\d+)\s?[-:]\s?(\d+)",
            lambda match: f"{match[1]}{quantity(match[2])}比{quantity(match[3])}",
        ),
        (rf"(?<=\d)\s?-\s?(?={_N}\s?=)", "减"),
        (r"(?<=[\d)])\s?([+*×x÷=])\s?(?=-?\d)", lambda match: _ARITHMETIC[match[1]]),
        (r"(?<=[\d%年月日号时点分秒元])\s?(?:-|~|–|—)\s?(?=[\d$¥])", "到"),
        # Times and ratios.
        (
            r"(?<![\d:])(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?(?![\d:])(?:\s?(?P<half>[aApP]\.?[mM](?![A-Za-z])\.?))?",
            _time,
        ),
        (rf"({_N}):({_N})", lambda match: f"{quantity(match[1])}比{quantity(match[2])}"),
        # Signs.
        (rf"(?<![\dA-Za-z.])-(?={_N}(?:到-?{_N})?\s?(?:°|度))", "零下"),
        (rf"(?<=到)-(?={_N})", "负"),
        (rf"(?<![\dA-Za-z.])-(?=[$¥]?{_N})", "负"),
        # Money, percentages, fractions, measures.
        (
            rf"(?P<sign>{_CURRENCY_PATTERN})\s?(?P<number>{_N})(?:到(?P<range>{_N}))?(?P<scale>[十百千万亿]+)?(?:元(?!旦|素|首|件))?",
            _money,
        ),
        (rf"(?P<number>{_N})(?P<scale>[十百千万亿]+)?\s?(?P<range>)(?P<sign>{_CURRENCY_PATTERN})(?![A-Za-z])", _money),
        (rf"(?:(?P<lower>{_N})到)?(?P<number>{_N})\s?(?P<sign>[%‰])", _percent),
        (r"(?<![\d./])(\d+)/(\d+)(?![\d/])", _fraction),
        (rf"(?<![A-Za-z])(?P<number>{_N})\s?(?P<unit>{_UNIT_PATTERN})(?![A-Za-z\d])", _measure),
        # The rest: parts of Latin names, long codes, counted nouns, numbers.
        (rf"(?<=[A-Za-z])-?({_N})", _read_attached),
        (r"(?<![\d.])\d{11,}(?!\.?\d)", _long_number),
        (rf"(?<![\d.第零下初])2(?=(?:多|来)?(?:{_COUNTED}))", "两"),
        (rf"(?<!\d)\.\d+|{_N}", lambda match: quantity(match.group())),
    )
)
_PER: Final = re.compile(r"(?<=[元角分度次吨米里克升斤个字页件人])/(?=[月天年日时分秒人次斤小公平米吨克升个件页])")


def _date_or_version(match: re.Match[str]) -> str:
    as_date = re.fullmatch(r"(?P<year>\d{4})\.(?P<month>\d{1,2})\.(?P<day>\d{1,2})", match.group())
    spoken = _date(as_date) if as_date else match.group()
    return _versions(match) if spoken == match.group() else spoken


def expand_numbers(text: str) -> str:
    """Return the text without digits. Expects ASCII digits and marks (see the normaliser's folding).

    A year before 年 is read as a quantity, 二千零二十四年, as existing checkpoints were trained; in a date written in
    figures only (2024-05-01) it is read digit by digit.
    """
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return _PER.sub("每", text)
