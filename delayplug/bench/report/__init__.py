"""What runs gave: tables for the terminal, pictures, and one page to show.

Read `page.write_page` first.
"""
