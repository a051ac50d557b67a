"""Names of currencies, magnitudes and units of measure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# Symbol → singular, plural, singular and plural of the hundredth (empty: none).
CURRENCIES: Final[Mapping[str, tuple[str, str, str, str]]] = MappingProxyType(
    {
        "$": ("dollar", "dollars", "cent", "cents"),
        "£": ("pound", "pounds", "penny", "pence"),
        "€": ("euro", "euros", "cent", "cents"),
        "¥": ("yen", "yen", "", ""),
        "₹": ("rupee", "rupees", "paisa", "paise"),
    }
)
MAGNITUDES: Final[Mapping[str, str]] = MappingProxyType(
    {"k": "thousand", "m": "million", "mm": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
)

UNITS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "km/h": ("kilometer per hour", "kilometers per hour"),
        "kph": ("kilometer per hour", "kilometers per hour"),
        "mph": ("mile per hour", "miles per hour"),
        "m/s": ("meter per second", "meters per second"),
        "km": ("kilometer", "kilometers"),
        "m": ("meter", "meters"),
        "cm": ("centimeter", "centimeters"),
        "mm": ("millimeter", "millimeters"),
        "km²": ("square kilometer", "square kilometers"),
        "m²": ("square meter", "square meters"),
        "m³": ("cubic meter", "cubic meters"),
        "kg": ("kilogram", "kilograms"),
        "g": ("gram", "grams"),
        "mg": ("milligram", "milligrams"),
        "lb": ("pound", "pounds"),
        "lbs": ("pound", "pounds"),
        "oz": ("ounce", "ounces"),
        "ft": ("foot", "feet"),
        "sq ft": ("square foot", "square feet"),
        "mi": ("mile", "miles"),
        "yd": ("yard", "yards"),
        "L": ("liter", "liters"),
        "l": ("liter", "liters"),
        "ml": ("milliliter", "milliliters"),
        "mL": ("milliliter", "milliliters"),
        "gal": ("gallon", "gallons"),
        "°C": ("degree Celsius", "degrees Celsius"),
        "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
        "°": ("degree", "degrees"),
        "GHz": ("gigahertz", "gigahertz"),
        "MHz": ("megahertz", "megahertz"),
        "kHz": ("kilohertz", "kilohertz"),
        "Hz": ("hertz", "hertz"),
        "dB": ("decibel", "decibels"),
        "TB": ("terabyte", "terabytes"),
        "GB": ("gigabyte", "gigabytes"),
        "MB": ("megabyte", "megabytes"),
        "KB": ("kilobyte", "kilobytes"),
        "kB": ("kilobyte", "kilobytes"),
        "kbps": ("kilobit per second", "kilobits per second"),
        "Mbps": ("megabit per second", "megabits per second"),
        "Gbps": ("gigabit per second", "gigabits per second"),
        "kW": ("kilowatt", "kilowatts"),
        "kWh": ("kilowatt hour", "kilowatt hours"),
        "W": ("watt", "watts"),
        "V": ("volt", "volts"),
        "ms": ("millisecond", "milliseconds"),
        "s": ("second", "seconds"),
        "sec": ("second", "seconds"),
        "secs": ("second", "seconds"),
        "min": ("minute", "minutes"),
        "mins": ("minute", "minutes"),
        "hr": ("hour", "hours"),
        "hrs": ("hour", "hours"),
        "px": ("pixel", "pixels"),
    }
)
