/* The digits of a text. */

#include "primitives.h"

/* Return the digits 0 to 9 of a text. */
PyObject *digits(PyObject *Py_UNUSED(module), PyObject *text)
{
    if (!PyUnicode_Check(text))
        return PyErr_Format(PyExc_TypeError, "expected a text");
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text), count = 0;
    for (Py_ssize_t at = 0; at < length; at++)
        count += PyUnicode_READ(kind, data, at) - '0' < 10U;
    PyObject *found = PyUnicode_New(count, '9');
    if (found == NULL || count == 0)
        return found;
    Py_UCS1 *into = PyUnicode_1BYTE_DATA(found);
    for (Py_ssize_t at = 0; at < length; at++) {
        Py_UCS4 each = PyUnicode_READ(kind, data, at);
        if (each - '0' < 10U)
            *into++ = (Py_UCS1)each;
    }
    return found;
}
